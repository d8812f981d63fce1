"""The layouts that a person's folder may have, those with the most particular names first."""

from hrsearch.proxy.data.layouts.ade20k import ADE20K
from hrsearch.proxy.data.layouts.cityscapes import CITYSCAPES
from hrsearch.proxy.data.layouts.classes import CLASSES
from hrsearch.proxy.data.layouts.coco import COCO
from hrsearch.proxy.data.layouts.masks import MASKS
from hrsearch.proxy.data.layouts.pascal_context import PASCAL_CONTEXT

LAYOUTS = (COCO, CITYSCAPES, ADE20K, PASCAL_CONTEXT, MASKS, CLASSES)
