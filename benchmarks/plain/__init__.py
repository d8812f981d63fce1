"""HRFormer-T and HRViT-b1 as one writes them down from their papers: what our own blocks are timed against.

Maps lie as PyTorch makes them (channels first), attention is `softmax(q @ k.T * scale + bias) @ v`. Nothing is slowed
down on purpose, and nothing is made faster than the formulas read. The names of the weights are the authors'.
"""
