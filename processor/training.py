"""The epochs of a run: train, evaluate, write the metrics, save.

Between two steps of an epoch: log, save, stop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch
from torch import Tensor, nn

from feeders.loader import UNLABELLED
from shapmix import ShapMix, effective_number_weights
from shapmix.distributed import world

from . import origin
from .answers import adjustment_of, autocast_dtype
from .averaging import WeightAverage
from .build import Parts
from .card import KEY, make_card, temperature_of
from .checkpoint import file_checksum, save_checkpoint
from .config import Config
from .config_files import keys_without_effect
from .data import Data, Split
from .distributed import any_rank, is_main, share_buffers
from .engine import Meter, NotFinite, Reading, Scores, Trainer, evaluate, refresh_table, train_one_epoch
from .errors import CheckpointError, ConfigError
from .host import Stopped, StopSignals
from .learning_rate import learning_rate
from .metrics import best_test_epoch, classification_metrics, epoch_line, fitted_temperature, group_means, table
from .metrics_lines import Recorded, recorded_by
from .parts import restoring
from .report.logger import grouped, open_logger
from .report.monitor import Monitor
from .run_folder import MetricsLog, RunFolder, train_on
from .saliency_file import write_table
from .scores import ScoreFile
from .weights import check_numbers
from .zoo import weights_file

log = logging.getLogger(__name__)

BEST_METRIC = "top1"
State = Mapping[str, Any] | None  # a checkpoint
WEAK_GUIDANCE = 0.05  # below it, guided mixing is almost uniform
COMPARED = ("top1", "mean_class_accuracy", "many", "medium", "few", "ece", "test_loss")  # of raw and averaged weights
SHARED_READS = 20  # steps after which several processes on GPUs agree on whether to stop, at the latest


class Training:
    """The epochs of a run, and what it carries from one to the next.

    Args:
        state: the checkpoint of a run that continues. All draws depend on (seed, epoch, step) alone, so no generator is
            stored.

    Raises:
        ConfigError: the data is not that of the checkpoint.
    """

    def __init__(
        self, config: Config, folder: RunFolder, data: Data, parts: Parts, device: torch.device, state: State = None
    ) -> None:
        self.config, self.folder, self.device, self.data, self.parts = config, folder, device, data, parts
        self.stop = StopSignals()
        self.trainer = make_trainer(config, data, parts, device, self.stop)
        self.epoch, self.meter = 0, Meter()
        self.best: dict[str, Any] = {}
        self.recorded: Recorded = {}  # the lines of metrics.jsonl; the main process has those that it writes
        self.tested: nn.Module = parts.network  # whose scores are the result: the network, or its average
        self.monitor: Monitor | None = None
        self.weights_checksum: str | None = None  # of the file that the run began with
        self.temperature = 1.0  # by which the last scores were divided
        self.card = make_card(config, data, parts.mixer, state)
        if state is not None:
            self._restore(state)
        elif config.weights is not None:
            self.weights_checksum = file_checksum(weights_file(config.weights))

    def write_records(self) -> None:
        """config.yaml, environment.json and the first lines of the log."""
        config, data, counts = self.config, self.data, self.data.class_counts
        processes = world()[1]
        if is_main():
            self.folder.write_config(config)
            self.folder.write_environment(data.checksum, self.weights_checksum, self.device)
        for key, reason in keys_without_effect(config):
            log.warning("%s has no effect, because %s", key, reason)
        log.info(
            "%s -> %s: %d training samples in %d classes (%d to %d), %d test samples; %s, %d process(es)",
            config.config, self.folder, len(data.loaders["train"].ids), len(counts), min(counts), max(counts),
            len(data.loaders["test"].ids), self.device, processes,
        )  # fmt: skip
        published = " (published protocol)" if config.eval_interval == 1 else ""
        best_on = "the validation split" if "val" in data.loaders else f"the test split{published}"
        log.info("best.pt is chosen on %s, by %s; the reported result is the last epoch", best_on, BEST_METRIC)

    def run(self) -> int:
        """Trains to the last epoch; returns the exit code."""
        config = self.config
        record = None
        if is_main():
            logger = open_logger(config.logger, self.folder.path, self.epoch, config.identity())
            self.monitor = Monitor(config, self.data, self.parts.mixer, logger)
            record = MetricsLog(self.folder, self.epoch, logger, self.recorded)
        with self.stop:
            try:
                if config.num_epoch == 0:
                    self.close_epoch({"epoch": -1}, record)
                while self.epoch < config.num_epoch:
                    self.run_epoch(record)
            except NotFinite as error:
                raise NotFinite(f"{error}. {self.after_not_finite()}") from error
            except Stopped:
                if config.num_epoch:  # else there is nothing to go on from
                    self.save("last")
                log.info("stopped in epoch %d after step %d; the same command continues", self.epoch, self.meter.steps)
                return 128 + (self.stop.received or SIGTERM)
            finally:
                if record is not None:
                    record.close()
        return 0

    def run_epoch(self, record: MetricsLog | None) -> None:
        """One epoch: train, evaluate, write the metrics, save."""
        config, epoch, trainer = self.config, self.epoch, self.trainer
        if config.reweight_from is not None:
            late = epoch >= round(config.reweight_from * config.num_epoch, 6)
            weights = effective_number_weights(self.data.class_counts, config.reweight_beta) if late else None
            for criterion in {self.parts.criterion, self.parts.mix_criterion}:
                criterion.reweight(weights)
        if self.meter.steps == 0:
            self.refresh_table()
        with closing(train_one_epoch(trainer, self.data.loaders["train"], epoch, self.meter)) as readings:
            for _ in readings:
                self.after_reading()
        metrics = {"epoch": epoch, "lr": trainer.learning_rate(epoch, 0)}
        metrics |= self.meter.over_ranks(self.device).metrics()
        if trainer.mixer is not None:
            metrics |= trainer.mixer.metrics()
        if isinstance(trainer.mixer, ShapMix) and trainer.mixer.guided:
            metrics |= group_means("guidance", trainer.mixer.guidance().tolist(), self.data.groups)
        if trainer.average is not None:
            trainer.average.after_epoch(epoch)
        self.close_epoch(metrics, record)

    def refresh_table(self) -> None:
        """Where it is due before this epoch, all rows of the saliency table are computed from training samples."""
        mixer, config, loader = self.trainer.mixer, self.config, self.data.loaders["train"]
        if mixer is None or not mixer.refresh_due(self.epoch):
            return
        share_buffers(self.parts.model)
        sizes = config.refresh_samples, config.test_batch_size
        count = refresh_table(mixer, self.parts.network, loader, self.epoch, *sizes, autocast_dtype(config.precision))
        log.debug("epoch %d: the saliency table is refreshed from %d training samples", self.epoch, count)

    def after_not_finite(self) -> str:
        """What to do about a loss or, after all steps of an epoch, scores that are not finite."""
        evaluating = self.meter.steps == self.data.loaders["train"].steps  # last.pt has the weights already
        good = self.folder.best if evaluating else self.folder.last
        kept = f"The last good checkpoint is kept: {train_on(good)}" if good.is_file() else "No checkpoint is kept"
        return f"{kept}. Lower base_lr, set grad_clip, or look at these samples"

    def after_reading(self) -> None:
        """Between two steps, all of which are in the meter: log, save, stop."""
        config, meter, steps = self.config, self.meter, self.data.loaders["train"].steps
        if meter.steps % config.log_interval == 0 or meter.steps == steps:
            log.debug("epoch %d step %d/%d loss %.4f", self.epoch, meter.steps, steps, meter.loss / meter.seen)
        if config.save_steps and meter.steps % config.save_steps == 0:
            self.save("last")
        if any_rank(self.stop.received is not None, self.device):
            raise Stopped

    def close_epoch(self, metrics: dict[str, Any], record: MetricsLog | None) -> None:
        """Evaluates, writes the metrics, saves. Epoch -1: the given weights are evaluated, nothing was trained."""
        config, data, epoch = self.config, self.data, metrics["epoch"]
        last = epoch + 1 == config.num_epoch
        selection: Split = "val" if "val" in data.loaders else "test"
        scores: dict[Split, Scores] = {}
        improved = False
        evaluated = last or (epoch + 1) % config.eval_interval == 0
        if epoch == 0 or (evaluated and epoch > 0):
            self.save("last")  # the epoch's training is safe, whatever happens while it is evaluated or written down
        if evaluated:
            scores = self.evaluate(metrics)
            value = metrics["val_" * (selection == "val") + BEST_METRIC]
            improved = value > self.best.get("value", -1.0)
            if improved:
                self.best = {"value": value, "epoch": epoch, "split": selection, "test": metrics[BEST_METRIC]}
        log.info(epoch_line(metrics))
        self.folder.check_place()
        if record is not None:
            checksum = record.add(metrics)
            if epoch >= 0:
                self.recorded[epoch] = checksum
            if scores and self.monitor is not None:
                self.monitor.evaluated(epoch, scores["test"].logits.numpy(), last)
            if last:
                record.logger.results(grouped(metrics))
        guided = config.num_epoch - config.naive_mix_epoch  # epochs; in the first few, guidance is weak anyway
        if last and guided >= 10 and metrics.get("guidance", 1.0) < WEAK_GUIDANCE:
            log.info(
                "guidance is %.3f of 1: coalitions were drawn almost uniformly. A lower mixing_args.temperature guides "
                "more, or mixing_args: {estimator: refresh, standardise: true, temperature: 1}", metrics["guidance"],
            )  # fmt: skip
        if last and scores:
            log.info("\n%s", table(metrics, data.class_names, data.class_counts, data.groups))
            if self.best and self.best["epoch"] >= 0:
                kind = "best on validation" if selection == "val" else best_test_epoch(config.eval_interval == 1)
                log.info("%s: epoch %d, test top-1 %.1f %%", kind, self.best["epoch"], 100 * self.best["test"])
            for split, found in scores.items():
                write_scores(config, data, split, found, self.folder.scores(split))
        self.epoch, self.meter = epoch + 1, Meter()
        if improved:
            self.save("best")
        if config.dataset is not None and is_main():
            write_table(self.folder.saliency_table(config.dataset), self.parts.mixer)
        if config.save_interval and epoch >= config.save_epoch and (epoch + 1) % config.save_interval == 0:
            self.save(f"epoch_{epoch}")
        self.save("last")  # at the end: after a crash before it, all this is done again

    def evaluate(self, metrics: dict[str, Any]) -> dict[Split, Scores]:
        """Scores of the test and the validation split; their metrics are added to ``metrics``. May raise Stopped."""
        scores = self.scores_of(self.parts.network, metrics)
        average = self.trainer.average
        if average is not None and average.ready():
            for name in [key for key in metrics if key in (*COMPARED, *(f"val_{one}" for one in COMPARED))]:
                metrics[f"raw_{name}"] = metrics[name]
            loader = self.data.loaders["train"]
            inputs = (batch.x for batch in loader.in_order(self.config.batch_size, loader.all_for_each_process()))
            self.tested = average.evaluated(inputs)
            scores = self.scores_of(self.tested, metrics)
        return scores

    def scores_of(self, network: nn.Module, metrics: dict[str, Any]) -> dict[Split, Scores]:
        """Scores of a network on the test and the validation split; their metrics are added to ``metrics``."""
        config, data, stop = self.config, self.data, self.stop
        splits: list[Split] = ["test", "val"] if "val" in data.loaders else ["test"]
        scores = {split: score_split(config, data, network, split, stop) for split in splits}
        if config.fit_temperature:
            temperature = fitted_temperature(scores["val"].logits, data.loaders["val"].labels)
            scores = {split: found.divided(temperature, data.loaders[split].labels) for split, found in scores.items()}
            metrics["temperature"] = self.temperature = temperature
        metrics |= {"test_loss": scores["test"].loss, **split_metrics(config, data, "test", scores["test"])}
        if "val" in scores:
            found = split_metrics(config, data, "val", scores["val"])
            metrics |= {f"val_{name}": value for name, value in found.items()}
        return scores

    def save(self, name: str) -> None:
        """Writes ``name``.pt with everything that the loop carries."""
        meter = self.meter.over_ranks(self.device)
        if is_main():
            self.folder.check_place()
            mixer = self.parts.mixer
            save_checkpoint(
                self.folder.checkpoint(name),
                {
                    "model": self.parts.network.state_dict(),
                    "optimizer": self.parts.optimizer.state_dict(),
                    "mixer": {} if mixer is None else mixer.state_dict(),
                    "epoch": self.epoch,
                    "meter": asdict(meter),
                    "best": self.best,
                    "metrics": self.recorded,
                    "average": {} if self.trainer.average is None else self.trainer.average.state_dict(),
                    "data": self.data.checksum,
                    "weights": self.weights_checksum,
                    "threads": torch.get_num_threads(),
                    "config": self.config.identity(),
                    origin.KEY: origin.origin(self.device),
                    KEY: replace(self.card, temperature=self.temperature).plain(),
                },
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        if state.get("data", self.data.checksum) != self.data.checksum:
            raise ConfigError(f"the data has changed since {self.folder} was begun; --overwrite trains it again")
        self.weights_checksum = state.get("weights")
        source, own = self.folder.source, self.parts.network.state_dict()
        if state["model"].keys() != own.keys():
            raise CheckpointError(
                f"{self.folder} was begun with another version of its network; finish it with that version of the "
                "program, or begin a run from its weights: --weights FILE and another --work_dir"
            )
        check_numbers(source, {key: value for key, value in state["model"].items() if isinstance(value, Tensor)}, own)
        with restoring(source):
            self.parts.network.load_state_dict(state["model"])
            restore_optimizer(self.parts.optimizer, state["optimizer"])
            if self.trainer.average is not None:
                self.trainer.average.load_state_dict(state["average"])
            self.meter = Meter(**state["meter"])
        self.temperature, self.epoch, self.best = temperature_of(state, source), state["epoch"], state["best"]
        if self.folder.holds(source):  # else the metrics before are in the other folder
            self.recorded = recorded_by(state)
        problem = self.folder.best_problem() if self.best and is_main() else None
        if any_rank(problem is not None, self.device):
            message = "%s %s, of epoch %d: the next evaluated epoch writes one"
            log.warning(message, self.folder.best, problem or "cannot be used", self.best["epoch"])
            self.best = {}
        if not is_main():  # the main process carries the sums of all
            self.meter = Meter(steps=self.meter.steps)
        log.info("going on in epoch %d after step %d", self.epoch, self.meter.steps)
        before = self.config.model_copy(update={"num_epoch": state["config"].get("num_epoch", self.config.num_epoch)})
        if before.num_epoch != self.config.num_epoch:
            where = self.epoch, self.meter.steps, self.data.loaders["train"].steps
            log.warning(
                "a run of %d epochs now has %d. Its schedule (%s, reweight_from) is that of %d from here on: the "
                "learning rate goes on with %.3g, not %.3g",
                before.num_epoch, self.config.num_epoch, self.config.schedule, self.config.num_epoch,
                learning_rate(self.config, *where), learning_rate(before, *where),
            )  # fmt: skip


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The state that a checkpoint has of it; ValueError where that is of other weights."""
    for group in state["param_groups"]:
        group["fused"] = optimizer.defaults["fused"]  # as suits this device, not the one that it was saved on
    optimizer.load_state_dict(state)
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != weight.shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)} for a weight of {tuple(weight.shape)}")


def make_trainer(
    config: Config, data: Data, parts: Parts, device: torch.device, stop: StopSignals | None = None
) -> Trainer:
    """The training step of a run. One process reads losses when a signal comes; several agree at fixed steps."""
    intervals = read_interval(config, device), config.log_interval, config.save_steps
    average = None
    if config.average_weights != "none":
        kind, decay = config.average_weights, config.average_decay
        average = WeightAverage(parts.network, kind, decay, config.num_epoch, bool(parts.frozen))
    return Trainer(
        model=parts.model,
        mixer=parts.mixer,
        criterion=parts.criterion,
        optimizer=parts.optimizer,
        learning_rate=partial(learning_rate, config, steps=data.loaders["train"].steps),
        seed=config.seed,
        grad_clip=config.grad_clip,
        reading=Reading(intervals, stop if world()[1] == 1 else None),
        autocast=autocast_dtype(config.precision),
        compiled=bool(config.compile),
        frozen=parts.frozen,
        mix_criterion=parts.mix_criterion,
        average=average,
    )


def read_interval(config: Config, device: torch.device) -> int:
    """Steps after which losses are read: every one on the CPU, where that costs nothing.

    On a GPU those that are logged. Several processes agree on a stop only then, so they do it more often.
    """
    if device.type == "cpu":
        return 1
    return config.log_interval if world()[1] == 1 else min(config.log_interval, SHARED_READS)


def score_split(config: Config, data: Data, network: nn.Module, split: Split, stop: StopSignals) -> Scores:
    """Logits of a split; several processes cannot stop in an evaluation."""
    return evaluate(
        network,
        data.loaders[split],
        config.test_batch_size,
        autocast_dtype(config.precision),
        stop if world()[1] == 1 else None,
        bool(config.compile),
        adjustment_of(data.class_counts, config.post_hoc_tau),
    )


def split_metrics(config: Config, data: Data, split: Split, scores: Scores) -> dict[str, Any]:
    """Metrics of the samples of a split whose labels are known."""
    labels, logits = data.loaders[split].labels.numpy(), scores.logits.numpy()
    known = labels != UNLABELLED
    return classification_metrics(logits[known], labels[known], data.groups, config.show_topk)


def write_scores(config: Config, data: Data, split: Split, scores: Scores, path: Path) -> None:
    """The score file of a split, for tables and ensembles."""
    if is_main() and config.save_score:
        loader, groups = data.loaders[split], config.groups
        labels = None if (loader.labels == UNLABELLED).any() else loader.labels.numpy()
        ScoreFile(
            str(path), loader.ids, scores.logits.numpy(), labels, loader.class_names, data.class_counts, groups.many,
            groups.few,
        ).write(path)  # fmt: skip
