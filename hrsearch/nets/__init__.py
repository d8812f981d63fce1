"""The networks' parts, a module per family: importing this package fills the registries LINKS, BLOCKS and HEADS.

Shape letters: B batch, C channels, H height and W width of a map, L tokens of a strip, D channels of a head.
Every map is (B, C, H, W) and is fastest in `torch.channels_last`, where the view (B, H, W, C) costs nothing.
"""

from hrsearch.nets import heads, hirivit, hrformer, hrnet, hrvit, ocr, stems, transformer, uper

__all__ = ["heads", "hirivit", "hrformer", "hrnet", "hrvit", "ocr", "stems", "transformer", "uper"]
