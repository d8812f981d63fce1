"""What training does to images at random, task by task, as the papers do. Pure: the same generator, the same result.

Each function takes a sample, the side of the square that it makes in pixels, a generator and whether a mirrored image
is as good an image, and gives (3, H, W) uint8 and the label as `Split` holds it.
"""

from hrsearch.proxy.augment.classify import classify
from hrsearch.proxy.augment.erase import erased
from hrsearch.proxy.augment.mix import mixed, smoothed
from hrsearch.proxy.augment.pose import pose
from hrsearch.proxy.augment.segment import segment

__all__ = ["AUGMENT", "classify", "erased", "mixed", "pose", "segment", "smoothed"]

AUGMENT = {"segment": segment, "classify": classify, "pose": pose}
