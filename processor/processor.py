"""The Processor: one run, from the config to the last epoch's scores."""

from __future__ import annotations

import logging
import secrets
import socket
from pathlib import Path

import numpy as np
import torch

from feeders.loader import UNLABELLED
from shapmix.distributed import world

from .build import build, build_network
from .card import KEY, card_of, temperature_of
from .checkpoint import load_checkpoint
from .config import Config
from .data import Data, load_data
from .distributed import any_rank, barrier, gather_rows, is_main, launched_by, others_than_main, set_up, tear_down
from .errors import ConfigError
from .heartbeat import lost
from .host import StopSignals, keep_freed_memory
from .info import describe
from .logs import close_log, log_file, open_log
from .metrics import table
from .recognition.recognizer import Prediction
from .recognition.rows import Row, write
from .report.logger import check_logger
from .run_folder import RunFolder
from .training import Training, make_trainer, score_split, split_metrics, write_scores
from .trial import with_timing, without_timing
from .user_code import UserCodeError, place_of
from .weights import find_weights

log = logging.getLogger(__name__)


class Processor:
    """One run: ``Processor(config).start()`` trains, tests or describes, and returns the exit code.

    Exit codes: 0 done, 130 or 143 stopped by Ctrl-C or SIGTERM with everything saved. Errors that the user can fix are
    raised as ValueError with a message that names the cause; those of the user's own code as they are, with a note that
    says where the whole traceback is.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = RunFolder(config.work_dir)
        self.device = set_up(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()

    def start(self) -> int:
        """Runs the phase."""
        phases = {"train": self.train, "test": self.test, "info": self.info}
        done = False
        try:
            code = phases[self.config.phase]()
            barrier()  # the others may still write, or be lost
            done = True
            return code
        except Exception as error:
            log.debug("the run ends with an error", exc_info=True)
            if gone := lost(error):
                raise gone from error
            if log_file() is not None and (isinstance(error, UserCodeError) or place_of(error)):
                error.add_note(f"The whole traceback is in {log_file()}")
            raise
        finally:
            close_log()
            tear_down(done)
            self.folder.release()

    def train(self) -> int:
        """Trains to the last epoch, or continues one that was cut off."""
        config, folder = self.config, self.folder
        check_logger(config.logger)
        self._acquire_folder()
        open_log(folder.log if is_main() else None, is_main() and config.print_log)
        if any_rank(is_main() and folder.begun_by(launched_by()), self.device):
            config = config.model_copy(update={"overwrite": False})  # torchrun starts it again
        state = folder.resume(config)
        self._check_same("checkpoint", f"{state and (state['epoch'], state['meter'])}")
        if state is not None and state["epoch"] >= config.num_epoch:
            log.info("%s holds this run, finished; --overwrite trains it again", folder)
            for words in folder.lost(config, state):
                log.warning(words)
            return 0
        config = without_timing(config, self.device, state)
        data = load_data(config, self.device)
        self._check_same("data", data.checksum)
        parts = build(config, data, self.device, state, folder.source)
        config = with_timing(config, data, parts, self.device)
        training = Training(config, folder, data, parts, self.device, state)
        if config.overwrite and is_main():
            folder.clear()
            folder.begin(launched_by())
        training.write_records()
        code = training.run()
        if code == 0 and is_main():
            folder.end()
            if config.report:
                self._report(training)
        return code

    def _report(self, training: Training) -> None:
        """Writes report.html. A run is as good without it, so that nothing that happens here fails the run."""
        from .report.open_run import OpenRun  # takes a second: plotly
        from .report.report import write_report

        try:
            live = OpenRun(training.config, training.data, training.tested, training.parts.mixer, training.temperature)
            log.info("%s", write_report(self.folder, live))
        except Exception as error:
            log.warning(
                "the report could not be made (%s); the run is complete. python -m tools.report %s tries again",
                error, self.folder,
            )  # fmt: skip
            log.debug("no report", exc_info=True)

    def test(self) -> int:
        """Evaluates ``--weights`` on the test split."""
        config, folder = without_timing(self.config, self.device), self.folder
        if config.weights is None:
            raise ConfigError("--phase test needs --weights FILE: a checkpoint such as work_dir/<run>/best.pt")
        if is_main():
            folder.path.mkdir(parents=True, exist_ok=True)
        barrier()
        open_log(folder.log if is_main() else None, is_main() and config.print_log)
        weights = find_weights(config.weights)
        state = load_checkpoint(weights)
        card = card_of(state, weights) if KEY in state else None  # then the training data is not needed
        data = load_data(config, self.device, ("train", "test") if card is None else ("test",), card)
        network = build_network(config, data, self.device, config.weights)
        labels, written = data.loaders["test"].labels, folder.scores("test", weights)
        scores = score_split(config, data, network, "test", StopSignals())
        scores = scores.divided(temperature_of(state, weights), labels)
        if (labels != UNLABELLED).any():
            log.info("test loss %.4f", scores.loss)
            metrics = split_metrics(config, data, "test", scores)
            log.info("\n%s", table(metrics, data.class_names, data.class_counts, data.groups))
        write_scores(config, data, "test", scores, written)
        if (labels == UNLABELLED).any() and is_main():
            self._write_labels(data, scores.logits.double().softmax(1).numpy(), written.with_suffix(".csv"))
        return 0

    def _write_labels(self, data: Data, values: np.ndarray, path: Path) -> None:
        """Predictions of probabilities (n, K), where labels are not known."""
        found = [Prediction(row, data.class_names) for row in values]
        rows = [Row(name, None, None, None, one) for name, one in zip(data.loaders["test"].ids, found, strict=True)]
        write(rows, path, "csv", min(5, len(data.class_names)))
        unknown = int((data.loaders["test"].labels == UNLABELLED).sum())
        log.info("%d of %d samples have no label (-1); predictions of all are in %s", unknown, len(rows), path)

    def info(self) -> int:
        """Prints the network's size and cost, the data, and the throughput of a training step."""
        open_log(None, is_main())
        config = without_timing(self.config, self.device)
        data = load_data(config, self.device, ("train", "test"))
        parts = build(config, data, self.device)
        config = with_timing(config, data, parts, self.device)
        trainer = make_trainer(config, data, parts, self.device)
        log.info(describe(trainer, parts.network, data.loaders["train"], data.loaders["test"]))
        return 0

    def _acquire_folder(self) -> None:
        """The main process creates and locks the folder; where that fails, all processes end."""
        failure: Exception | None = None
        if is_main():
            try:
                self.folder.acquire()
            except (ConfigError, OSError) as error:
                failure = error
        if any_rank(failure is not None, self.device):
            raise failure or ConfigError(f"work_dir {self.folder} cannot be opened; the main process says why")
        self._check_shared()
        if any_rank(not is_main() and not self.folder.is_locked_for_others(), self.device):
            raise ConfigError(
                f"work_dir {self.folder}: the main process's lock is not seen by all processes; on several nodes it "
                "must lie on a shared file system whose locks (flock) reach all of them"
            )

    def _check_shared(self) -> None:
        """ConfigError where not all processes see the main one's folder."""
        if world()[1] == 1:
            return
        token = int(gather_rows(torch.tensor([secrets.randbits(62)], device=self.device))[0])
        if is_main():
            self.folder.show(token)
        barrier()
        blind = not self.folder.sees(token)
        if any_rank(blind, self.device):
            raise ConfigError(
                f"work_dir {self.folder.path.resolve()} on {socket.gethostname()} is not the main process's"
                if blind
                else f"not all processes see the work_dir {self.folder.path.resolve()} of the main process"
            )
        if is_main():
            self.folder.show(None)

    def _check_same(self, what: str, value: str) -> None:
        """ConfigError where processes have another value than the main one."""
        others = others_than_main(value, self.device) if world()[1] > 1 else []
        if others:
            which = ", ".join(map(str, others))
            raise ConfigError(
                f"process {which} sees other {what} than the main process: give all nodes the same files, the same "
                "versions and the same command"
            )
