"""What longer trainings with other seeds say of a study: how far its proxy ranks, and which of its winners are lucky.

They stand in the study's attributes, as targets do: `calibration:10:17:0` is the score of trial 17 after ten times the
proxy's steps with another seed, the first; `calibration:synflow:17` what a zero-cost proxy says of it;
`confirmation:3:17:0` a score of `hrsearch finalize`, and `confirmation` how that was done, once it is.
"""

from hrsearch.trust.card import Card, card_of
from hrsearch.trust.confirmed import confirmed, to_pick_from

__all__ = ["Card", "card_of", "confirmed", "to_pick_from"]
