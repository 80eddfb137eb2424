"""The Processor: builds everything from the config and owns the epochs."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import IO, Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from feeders.feeder import StoreFeeder, make_resident
from feeders.loader import DatasetLoader, Loader, StoreLoader
from feeders.longtail import shot_groups
from shapmix import Mixer, effective_number_weights, post_hoc_adjustment
from shapmix.distributed import world

from . import run_folder as logs
from .build import build_criterion, build_mixer, build_network, build_optimizer, second_stage
from .checkpoint import file_checksum, load_checkpoint, load_weights, save_checkpoint
from .config import Config, ConfigError, import_class, keys_without_effect, parameters
from .distributed import any_rank, barrier, is_main, main_first, set_up, tear_down
from .engine import Meter, Scores, Stopped, Trainer, evaluate, mean_sequence, train_one_epoch
from .errors import CheckpointError
from .host import StopSignals, keep_freed_memory
from .info import describe
from .learning_rate import learning_rate
from .lock import lock
from .metrics import classification_metrics, table
from .scores import ScoreFile

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]
DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}
BEST_METRIC = "top1"
SHARED_READS = 20  # steps after which several processes on GPUs agree on whether to stop, at the latest


class Processor:
    """One run: ``Processor(config).start()`` trains, tests or describes, and returns the exit code.

    Exit codes: 0 done, 130 or 143 stopped by Ctrl-C or SIGTERM with everything saved. What a user can mend is raised as
    ValueError with a message that names it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.work_dir = Path(config.work_dir)
        self.device = set_up(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.rank, self.processes = world()
        self.dtype = DTYPES[config.precision]
        self.signals = StopSignals()
        self.epoch, self.meter = 0, Meter()
        self.best: dict[str, Any] = {}
        self.weights_checksum: str | None = None  # of the file that the run began with
        self.lock: IO[bytes] | None = None

    def start(self) -> int:
        """Runs the phase."""
        phases = {"train": self.train, "test": self.test, "info": self.info}
        done = False
        try:
            code = phases[self.config.phase]()
            done = True
            return code
        except (ValueError, OSError):
            log.debug("the run ends with an error", exc_info=True)
            raise
        finally:
            logs.close_log()
            tear_down(done)
            if self.lock is not None:
                self.lock.close()

    # --- phases ------------------------------------------------------------------------------------------------------

    def train(self) -> int:
        """Trains to the last epoch, or goes on with a run that was cut off."""
        config = self.config
        state = self.open_work_dir()
        if state is not None and state["epoch"] >= config.num_epoch:
            log.info("%s holds this run, finished; --overwrite trains it anew", self.work_dir)
            return 0
        self.load_data(("train", "val", "test"))
        self.build_model(None if state is not None else config.weights)
        if state is None and config.weights is not None:
            self.weights_checksum = file_checksum(Path(config.weights))
        self.build_training(None if state is None else state["mixer"])
        if state is not None:
            self.restore(state)
        if config.overwrite and is_main():
            clear_work_dir(self.work_dir)
        self.describe_run()
        metrics = logs.MetricsLog(self.work_dir, self.epoch) if is_main() else None
        with self.signals:
            try:
                if config.num_epoch == 0:
                    self.close_epoch({"epoch": -1}, metrics)
                while self.epoch < config.num_epoch:
                    self.run_epoch(metrics)
            except Stopped:
                if config.num_epoch:  # else there is nothing to go on from
                    self.save("last")
                log.info("stopped in epoch %d after step %d; the same command goes on", self.epoch, self.meter.steps)
                return 128 + (self.signals.received or SIGTERM)
            finally:
                if metrics is not None:
                    metrics.close()
        return 0

    def run_epoch(self, metrics: logs.MetricsLog | None) -> None:
        """One epoch: train, evaluate, write the figures, save."""
        config, epoch = self.config, self.epoch
        if config.reweight_from is not None:
            late = epoch >= round(config.reweight_from * config.num_epoch, 6)
            self.criterion.reweight(effective_number_weights(self.class_counts, config.reweight_beta) if late else None)
        figures: dict[str, Any] = {"epoch": epoch, "lr": self.trainer.learning_rate(epoch, 0)}
        figures |= train_one_epoch(self.trainer, self.loaders["train"], epoch, self.meter.steps, self.meter)
        if self.trainer.mixer is not None:
            figures |= self.trainer.mixer.metrics()
        self.close_epoch(figures, metrics)

    def close_epoch(self, figures: dict[str, Any], metrics: logs.MetricsLog | None) -> None:
        """Evaluates, writes the figures, saves. Epoch -1 is what was there before any training."""
        config, epoch = self.config, figures["epoch"]
        last = epoch + 1 == config.num_epoch
        scores, val_scores, improved = None, None, False
        if last or (epoch + 1) % config.eval_interval == 0:
            if epoch >= 0:
                self.save("last")  # the epoch's training is safe, whatever happens while it is evaluated
            scores = self.evaluate("test")
            figures |= {"test_loss": scores.loss, **self.figures("test", scores)}
            judged = figures
            if "val" in self.loaders:
                val_scores = self.evaluate("val")
                judged = self.figures("val", val_scores)
                figures |= {f"val_{name}": value for name, value in judged.items()}
            improved = judged[BEST_METRIC] > self.best.get("value", -1.0)
            if improved:
                split = "val" if "val" in self.loaders else "test"
                self.best = {"value": judged[BEST_METRIC], "epoch": epoch, "split": split, "test": figures[BEST_METRIC]}
        self.report_epoch(figures)
        if metrics is not None:
            metrics.add(figures)
        if last and scores is not None:
            self.report_end(figures, scores)
            if val_scores is not None:
                self.write_scores("val", val_scores, "scores_val.npz")
        self.epoch, self.meter = epoch + 1, Meter()
        if improved:
            self.save("best")
        self.save("last")
        if config.save_interval and epoch >= config.save_epoch and (epoch + 1) % config.save_interval == 0:
            self.save(f"epoch_{epoch}")

    def test(self) -> int:
        """Evaluates ``--weights`` on the test split."""
        if self.config.weights is None:
            raise ConfigError("--phase test needs --weights FILE: a checkpoint such as work_dir/<run>/best.pt")
        if is_main():
            self.work_dir.mkdir(parents=True, exist_ok=True)
        barrier()
        logs.open_log(self.work_dir if is_main() else None, is_main() and self.config.print_log)
        self.load_data(("train", "test"))
        self.build_model(self.config.weights)
        scores = self.evaluate("test")
        figures = self.figures("test", scores)
        log.info("test loss %.4f", scores.loss)
        self.report_end(figures, scores, f"scores_test_{Path(self.config.weights).stem}.npz")
        return 0

    def info(self) -> int:
        """Prints the network's size and cost, the data, and the throughput of a training step."""
        logs.open_log(None, is_main())
        self.load_data(("train", "test"))
        self.build_model(self.config.weights)
        self.build_training(None)
        log.info(describe(self.trainer, self.network, self.loaders["train"], self.loaders["test"]))
        return 0

    # --- building ----------------------------------------------------------------------------------------------------

    def load_data(self, splits: tuple[Split, ...]) -> None:
        """Feeders and loaders of the splits; the main process builds caches first."""
        config = self.config
        feeder = import_class(config.feeder, config.plugins)
        self.feeders: dict[str, Any] = {}
        with main_first():
            for split in splits:
                if split != "val" or config.validates:
                    args = config.split_args(split)
                    if "split" in parameters(feeder):
                        args.setdefault("split", split)
                    try:
                        self.feeders[split] = feeder(**args)
                    except TypeError as error:
                        raise ConfigError(
                            f"{config.config}: {split}_feeder_args of {config.feeder}: {error}"
                        ) from error
        self.loaders: dict[str, Loader] = {split: self.loader(feeder) for split, feeder in self.feeders.items()}
        train, test = self.loaders["train"], self.loaders["test"]
        streams = {getattr(feeder, "stream", None) for feeder in self.feeders.values()}
        if len(streams) > 1:
            raise ConfigError(f"{config.config}: the splits have different streams {streams}; set feeder_args.stream")
        if train.class_names != test.class_names:
            raise ConfigError(f"{config.config}: training and test feeders have different classes")
        train.check_batch_size()
        sources = [getattr(feeder, "checksum", "unknown") for feeder in self.feeders.values()]
        counts = [len(loader.ids) for loader in self.loaders.values()]
        self.data_checksum = "+".join(f"{source}:{count}" for source, count in zip(sources, counts, strict=True))
        held_out = self.feeders.get("val")
        if isinstance(held_out, StoreFeeder) and held_out.shares_samples(self.feeders["train"]):
            raise ConfigError(
                f"{config.config}: validation samples are in the training set too; set val_subjects in feeder_args, "
                "for every split"
            )
        self.class_counts = train.class_counts
        absent = [name for name, count in zip(train.class_names, self.class_counts, strict=True) if count == 0]
        if absent:
            log.warning(
                "%d classes have no training samples: %s. They are left out of the adjusted softmax",
                len(absent),
                absent,
            )
        self.groups = shot_groups(self.class_counts, config.groups.many, config.groups.few)
        if config.phase == "train":  # the others show a sequence once
            ours = {split: feeder for split, feeder in self.feeders.items() if isinstance(feeder, StoreFeeder)}
            make_resident(ours, self.device, config.device_resident)

    def loader(self, feeder: Any) -> Loader:
        """Batches of one feeder: ours by the batch, a user's Dataset through a DataLoader."""
        config = self.config
        if isinstance(feeder, StoreFeeder):
            return StoreLoader(feeder, config.batch_size, config.seed, self.device, self.dtype, config.sampler)
        num_class = config.model_args.get("num_class")
        if num_class is None:
            raise ConfigError(f"{config.config}: model_args.num_class is missing; your own Dataset needs it")
        return DatasetLoader(
            feeder,
            num_class,
            config.batch_size,
            config.seed,
            self.device,
            self.dtype,
            config.num_worker,
            config.sampler or "instance",
        )

    def build_model(self, weights: str | None) -> None:
        """The network, with what the feeder knows filled in, from ``weights`` where there are some."""
        config = self.config
        self.network, self.layout = build_network(
            config, self.feeders["train"], len(self.loaders["train"].class_names), self.device, self.dtype
        )
        if weights is not None:
            load_weights(self.network, Path(weights), config.ignore_weights)

    def build_training(self, mixer_state: dict[str, Any] | None) -> None:
        """Mixer (from its state, where there is one, which spares the pass over the data), loss, optimiser."""
        config = self.config
        if self.processes > 1 and self.device.type == "cuda":
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        elif self.processes > 1:
            log.info("batch norm uses each process's own samples (SyncBatchNorm needs CUDA)")
        frozen = second_stage(config, self.network)
        model: nn.Module = self.network
        if self.processes > 1:
            model = DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)
        self.criterion = build_criterion(config, self.class_counts, self.network).to(self.device, self.dtype)
        self.trainer = Trainer(
            model=model,
            mixer=self.build_mixer(mixer_state),
            criterion=self.criterion,
            optimizer=build_optimizer(config, self.network, self.device),
            learning_rate=partial(learning_rate, config, steps=self.loaders["train"].steps),
            seed=config.seed,
            rank=self.rank,
            grad_clip=config.grad_clip,
            read_interval=read_interval(config, self.device),
            reads_also=self.reads_also,
            compiled=bool(config.compile),
            autocast=self.autocast,
            after_step=self.after_step,
            frozen=frozen,
        )

    def build_mixer(self, state: dict[str, Any] | None) -> Mixer | None:
        """The mixer, or none; in the state that a checkpoint has, where there is one."""
        mixer = build_mixer(self.config, self.layout, self.class_counts, lambda: self.baseline(state))
        if mixer is not None and state is not None:
            mixer.load_state_dict(state)
        return None if mixer is None else mixer.to(self.device, self.dtype)

    def baseline(self, state: dict[str, Any] | None) -> torch.Tensor:
        """The static sequence (C, T, V, M) of absent parts: a checkpoint's, or from a pass over the training data."""
        if state is not None:
            return state["baseline"]
        config = self.config
        return mean_sequence(self.loaders["train"], config.test_batch_size, config.baseline == "published")

    def autocast(self) -> AbstractContextManager:
        """bf16 where the config asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.config.precision == "bf16" else nullcontext()

    # --- evaluation and reports --------------------------------------------------------------------------------------

    def evaluate(self, split: Split) -> Scores:
        """Logits of a split; may raise Stopped."""
        check: Callable[[], None] = self.check_signal if self.processes == 1 else lambda: None
        loader, config = self.loaders[split], self.config
        adjustment = post_hoc_adjustment(self.class_counts, config.post_hoc_tau) if config.post_hoc_tau else None
        return evaluate(
            self.network, loader, config.test_batch_size, self.autocast, check, bool(config.compile), adjustment
        )

    def figures(self, split: Split, scores: Scores) -> dict[str, Any]:
        """Metrics of a split."""
        labels = self.loaders[split].labels.numpy()
        return classification_metrics(scores.logits.numpy(), labels, self.groups, self.config.show_topk)

    def report_epoch(self, figures: dict[str, Any]) -> None:
        """One line an epoch."""
        text = "epoch {epoch:3d}".format(**figures)
        if "train_loss" in figures:
            text += "  lr {lr:.4f}  loss {train_loss:.4f}, mixed {train_mix_loss:.4f}".format(**figures)
            text += "  {samples_per_s:.0f} samples/s".format(**figures)
        if "top1" in figures:
            text += (
                f"  test top-1 {100 * figures['top1']:.1f} %, mean class {100 * figures['mean_class_accuracy']:.1f} %"
            )
        log.info(text)

    def report_end(self, figures: dict[str, Any], scores: Scores, file: str = "scores_test.npz") -> None:
        """The closing table, and the scores."""
        loader = self.loaders["test"]
        log.info("\n%s", table(figures, loader.class_names, self.class_counts, self.groups))
        if self.best and self.best["epoch"] >= 0:
            kind = "best on validation" if self.best["split"] == "val" else "best_test_epoch (published protocol)"
            log.info("%s: epoch %d, test top-1 %.1f %%", kind, self.best["epoch"], 100 * self.best["test"])
        self.write_scores("test", scores, file)

    def write_scores(self, split: Split, scores: Scores, file: str) -> None:
        """The score file of a split, for ensembles."""
        loader, path = self.loaders[split], self.work_dir / file
        if is_main() and self.config.save_score:
            groups = self.config.groups
            ScoreFile(
                str(path), loader.ids, scores.logits.numpy(), loader.labels.numpy(), loader.class_names,
                self.class_counts, groups.many, groups.few,
            ).write(path)  # fmt: skip

    def describe_run(self) -> None:
        """config.yaml, environment.json and the first lines of the log."""
        if is_main():
            logs.write_config(self.work_dir, self.config)
            logs.write_environment(
                self.work_dir, self.data_checksum, self.weights_checksum, self.device, self.processes
            )
        for key, reason in keys_without_effect(self.config):
            log.warning("%s has no effect, because %s", key, reason)
        train, test = self.loaders["train"], self.loaders["test"]
        log.info(
            "%s -> %s: %d training samples in %d classes (%d to %d), %d test samples; %s, %d process(es)",
            self.config.config, self.work_dir, len(train.ids), len(self.class_counts), min(self.class_counts),
            max(self.class_counts), len(test.ids), self.device, self.processes,
        )  # fmt: skip
        best_on = "the validation split" if "val" in self.loaders else "the test split (published protocol)"
        log.info("best.pt is chosen on %s, by %s; the headline is the last epoch", best_on, BEST_METRIC)

    # --- work_dir, checkpoints, signals ------------------------------------------------------------------------------

    def open_work_dir(self) -> dict[str, Any] | None:
        """Locks and opens the work_dir and its log; the checkpoint to go on from, or None for a fresh start.

        Raises:
            ConfigError: it holds a run of another config, or another process trains there.
            CheckpointError: the checkpoint cannot be read.
        """
        config, last = self.config, self.work_dir / "last.pt"
        self.lock_work_dir()
        logs.open_log(self.work_dir if is_main() else None, is_main() and config.print_log)
        named = config.resume not in ("auto", "none")
        present = self.load_own(last) if last.is_file() and not config.overwrite else None
        return self.load_own(Path(config.resume)) if named else present

    def lock_work_dir(self) -> None:
        """The main process makes and locks it; where that fails, all processes end."""
        failure: Exception | None = None
        if is_main():
            try:
                self.work_dir.mkdir(parents=True, exist_ok=True)
                self.lock = lock(self.work_dir)
            except (ConfigError, OSError) as error:
                failure = error
        if any_rank(failure is not None, self.device):
            raise failure or ConfigError(f"work_dir {self.work_dir} cannot be opened; the main process says why")

    def load_own(self, source: Path) -> dict[str, Any]:
        """The checkpoint in a file, if it is one of this run."""
        config, state = self.config, load_checkpoint(source)
        if not {"config", "epoch", "model", "optimizer"} <= state.keys():
            raise CheckpointError(f"{source} is no checkpoint of a run; bare weights go to --weights")
        mine = config.identity()
        theirs = {**{key: Config.model_fields[key].get_default() for key in mine}, **state["config"]}
        other = [key for key in mine if mine[key] != theirs[key]]
        if other or config.resume == "none":
            finished = "a finished" if state["epoch"] >= theirs["num_epoch"] else "an unfinished"
            reason = f"of another config (other {', '.join(other)})" if other else "and resume is none"
            raise ConfigError(f"{source} holds {finished} run {reason}; choose another --work_dir, or --overwrite it")
        return state

    def save(self, name: str) -> None:
        """Writes ``name``.pt with everything that the loop carries."""
        meter = self.meter.over_ranks(self.device)
        if is_main():
            mixer = self.trainer.mixer
            save_checkpoint(
                self.work_dir / f"{name}.pt",
                {
                    "model": self.network.state_dict(),
                    "optimizer": self.trainer.optimizer.state_dict(),
                    "mixer": {} if mixer is None else mixer.state_dict(),
                    "epoch": self.epoch,
                    "meter": dataclasses.asdict(meter),
                    "best": self.best,
                    "data": self.data_checksum,
                    "weights": self.weights_checksum,
                    "config": self.config.identity(),
                },
            )

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint. All draws depend on (seed, epoch, step) alone, so no generator is stored."""
        if state.get("data", self.data_checksum) != self.data_checksum:
            raise ConfigError(f"the data has changed since {self.work_dir} was begun; --overwrite trains it anew")
        self.weights_checksum = state.get("weights")
        self.network.load_state_dict(state["model"])
        optimizer = self.trainer.optimizer
        for group in state["optimizer"]["param_groups"]:
            group["fused"] = optimizer.defaults["fused"]  # as suits this device, not the one that it was saved on
        optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.best, self.meter = state["epoch"], state["best"], Meter(**state["meter"])
        if not is_main():  # the main process carries the sums of all
            self.meter = Meter(steps=self.meter.steps)
        log.info("going on in epoch %d after step %d", self.epoch, self.meter.steps)

    def reads_also(self, steps: int) -> bool:
        """Are losses read after so many steps of the epoch: is it logged, saved, or stopped then?"""
        config, stopping = self.config, self.processes == 1 and self.signals.received is not None
        saved = config.save_steps > 0 and steps % config.save_steps == 0
        return stopping or saved or steps % config.log_interval == 0

    def after_step(self, epoch: int, meter: Meter) -> None:
        """Between two steps that were read: log, save, stop."""
        config, steps = self.config, self.loaders["train"].steps
        if meter.steps % config.log_interval == 0 or meter.steps == steps:
            log.debug("epoch %d step %d/%d loss %.4f", epoch, meter.steps, steps, meter.loss / meter.seen)
        if config.save_steps and meter.steps % config.save_steps == 0:
            self.save("last")
        if any_rank(self.signals.received is not None, self.device):
            raise Stopped

    def check_signal(self) -> None:
        """Stops where a signal came."""
        if self.signals.received is not None:
            raise Stopped


def read_interval(config: Config, device: torch.device) -> int:
    """Steps after which losses are read: every one on the CPU, where that costs nothing.

    On a GPU those that are logged. Several processes agree on a stop only then, so they do it more often.
    """
    if device.type == "cpu":
        return 1
    return config.log_interval if world()[1] == 1 else min(config.log_interval, SHARED_READS)


def clear_work_dir(work_dir: Path) -> None:
    """Removes what a run writes, and nothing else; log.txt stays and is added to."""
    names = ["config.yaml", "environment.json", "metrics.jsonl", "last.pt", "best.pt"]
    names += ["scores_test.npz", "scores_val.npz"]
    for path in [work_dir / name for name in names] + list(work_dir.glob("epoch_*.pt")):
        path.unlink(missing_ok=True)
    shutil.rmtree(work_dir / "tensorboard", ignore_errors=True)
