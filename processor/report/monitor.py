"""What a run shows of itself while it trains: pictures in its logger, at little cost."""

from __future__ import annotations

import logging
from time import monotonic

import numpy as np

from feeders.loader import StoreLoader
from shapmix import Mixer, ShapMix

from ..config import Config
from ..data import Data
from ..network import layout_of
from .logger import Logger
from .mixed import mixed_samples

log = logging.getLogger(__name__)
SHARE = 0.02  # of a run's time that pictures may take; the last evaluation's are always made
FIRST = 1.0  # seconds that pictures are thought to take before they were made


class Monitor:
    """Makes the pictures of an evaluation, where the time allows it.

    Args:
        mixer: of the run; it is left as it is.
        logger: which keeps them.
    """

    def __init__(self, config: Config, data: Data, mixer: Mixer | None, logger: Logger) -> None:
        self.config, self.data, self.mixer, self.logger = config, data, mixer, logger
        self.begun, self.spent, self.takes = monotonic(), 0.0, FIRST

    def evaluated(self, epoch: int, logits: np.ndarray, last: bool) -> None:
        """Pictures after an evaluation with logits (n, K) of the test split."""
        begun = monotonic()
        affordable = self.spent + self.takes <= SHARE * (begun - self.begun)
        if self.logger.keeps and (last or affordable):
            self.logger.images(self.pictures(epoch, logits), epoch)
            self.takes = monotonic() - begun
            self.spent += self.takes
            log.debug("epoch %d: pictures took %.2f s", epoch, self.takes)

    def pictures(self, epoch: int, logits: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> image (height, width, 3) uint8."""
        from .pictures import confusion_picture, mixed_picture, table_picture  # matplotlib, not before it is needed

        data, mixer, train = self.data, self.mixer, self.data.loaders["train"]
        names, counts = data.class_names, data.class_counts
        labels = data.loaders["test"].labels.numpy()
        made = {"pictures/confusion": confusion_picture(labels, logits.argmax(1), names, counts)}
        if isinstance(mixer, ShapMix) and mixer.guided:
            made["pictures/saliency_table"] = table_picture(mixer.saliency, names, counts, mixer.layout.part_names)
        layout = layout_of(self.config, data.feeders["train"])
        if isinstance(train, StoreLoader) and layout is not None:
            samples = mixed_samples(self.config, data, mixer, max(epoch, 0))
            if samples:
                made["pictures/mixed_samples"] = mixed_picture(samples, layout, train.feeder.coordinates, names)
        return made
