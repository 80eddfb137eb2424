"""The keys of the official CTR-GCN, Shap-Mix and PYSKL configs, in terms of ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError

log = logging.getLogger(__name__)

NO_EFFECT = "accepted, no effect: "

# Every key of the official CTR-GCN and Shap-Mix YAML files and scripts that is not used here under its own name.
OFFICIAL_KEYS: dict[str, str] = {
    "cos": "true sets schedule: cosine",
    "local_rank": NO_EFFECT + "torchrun sets it",
    "model_saved_name": NO_EFFECT + "checkpoints lie in work_dir",
    "start_epoch": NO_EFFECT + "a run continues where its checkpoint ends (resume)",
    "test_interval": "the official name of eval_interval",
}
# Arguments of the official feeders, where the feeder here does not take them itself.
OFFICIAL_FEEDER_ARGS: dict[str, str] = {
    "bone": "stream: bone or bone_motion where true",
    "vel": "stream: joint_motion or bone_motion where true",
    "label_path": "split: test where it says val or test, else train",
    "class_prob": NO_EFFECT + "classes are sampled as they occur",
    "clip_len": "window_size",
    "data_prefix": NO_EFFECT + "ann_file is the whole path",
    "memcached": NO_EFFECT + "data is always memory-mapped",
    "mc_cfg": NO_EFFECT + "data is always memory-mapped",
    "pipeline": "window_size and num_clips of its UniformSample, stream of its GenSkeFeat; the rest has no effect",
    "test_mode": NO_EFFECT + "a split whose name holds train is seen as in training",
    "debug": NO_EFFECT + "take fewer samples with the feeder's own arguments",
    "normalization": NO_EFFECT + "the network normalises its input (data_bn)",
    "random_choose": NO_EFFECT + "frames are cropped or sampled as the data set's recipe has it",
    "random_move": NO_EFFECT + "the official recipes leave it off",
    "random_shift": NO_EFFECT + "the official recipes leave it off",
    "use_mmap": NO_EFFECT + "data is always memory-mapped",
}
OFFICIAL_UCLA_STREAMS = {  # CTR-GCN's UCLA configs name the stream in data_path
    "joint": "joint",
    "bone": "bone",
    "motion": "joint_motion",
    "joint motion": "joint_motion",
    "bone motion": "bone_motion",
}
# Class paths of official feeders -> ours, and PYSKL's names of the streams.
OFFICIAL_FEEDERS = {"pyskl_datasets.pose_dataset.PoseDataset": "feeders.feeder_pose.Feeder"}
PYSKL_STREAMS = {"j": "joint", "b": "bone", "jm": "joint_motion", "bm": "bone_motion"}
# Keys and feeders of Shap-Mix's files that CTR-GCN's do not have.
SHAP_MIX_KEYS = {"mixing_args", "naive_mix_epoch", "naive_estimate_epoch", "ema", "baseline", "tau"}
SHAP_MIX_KEYS |= {"cos", "dataset", "dist_weights"}
SHAP_MIX_FEEDERS = re.compile(r"\.Feeder_LT_|pyskl_datasets\.")
# Class paths of the official graphs -> layout.
OFFICIAL_GRAPHS = {"graph.ntu_rgb_d.Graph": "ntu25", "graph.ucla.Graph": "ucla20", "graph.kinect.Graph": "coco17"}


def translate(values: dict[str, Any], path: str) -> dict[str, Any]:
    """Official keys to ours, and the method of a file that names none; the rest is left to the schema."""
    values = _method(values, path)
    for key in OFFICIAL_KEYS.keys() & values.keys():
        value = values.pop(key)
        log.info("%s: %s: %s", path, key, OFFICIAL_KEYS[key])
        if key == "cos" and value:
            values.setdefault("schedule", "cosine")
        elif key == "test_interval":
            values.setdefault("eval_interval", value)
    if isinstance(values.get("dist_weights"), bool):
        log.info("%s: dist_weights: %sa saliency table to begin with is a .npy file", path, NO_EFFECT)
        del values["dist_weights"]
    ours = OFFICIAL_FEEDERS.get(str(values.get("feeder")))
    if ours is not None:
        values |= {"feeder": ours, **_kinetics(values, path)}
    return values


def _method(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The keys with ``mixing`` and ``loss``, where a file comes from a project that does not mix; what the log says.

    CTR-GCN's form is known by ``model_args.graph``; that form with a key or class of Shap-Mix is Shap-Mix's.
    """
    if "mixing" in values:
        return dict(values)
    model_args = values.get("model_args")
    official = isinstance(model_args, Mapping) and "graph" in model_args
    if official and not SHAP_MIX_KEYS & values.keys() and not SHAP_MIX_FEEDERS.search(str(values.get("feeder"))):
        found = {"loss": "cross_entropy", **values, "mixing": "none"}
        log.info(
            "%s has the form of CTR-GCN's files (model_args.graph), which do not mix: mixing: none, loss: %s. "
            "For Shap-Mix add config/methods/shap_mix.yaml to --config; Shap-Mix's own "
            "balanced files were published with mixing: st_mix, loss: cross_entropy",
            path, found["loss"],
        )  # fmt: skip
        return found
    if "loss" not in values:
        log.info("%s names no method: Shap-Mix with logit adjustment (mixing: shap_mix, loss: logit_adjustment)", path)
    return dict(values)


def translate_model_args(args: Mapping[str, Any], takes_graph: bool, where: str) -> dict[str, Any]:
    """Official arguments of a network to ours: the layout for ``graph``, but where the network itself takes that."""
    args = dict(args)
    if "graph" not in args or takes_graph:
        return args
    graph, graph_args = args.pop("graph"), args.pop("graph_args", None) or {}
    if graph not in OFFICIAL_GRAPHS:
        raise ConfigError(f"{where}.graph {graph!r}; known are {', '.join(OFFICIAL_GRAPHS)}; or give layout")
    if graph_args.get("labeling_mode", "spatial") != "spatial":
        raise ConfigError(f"{where}.graph_args.labeling_mode must be spatial, got {graph_args}")
    return {"layout": OFFICIAL_GRAPHS[graph], **args}


def _kinetics(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """What Shap-Mix's code for Kinetics does without a key in its YAML file: the pasted segments, and our ten clips."""
    train, test = (dict(values.get(f"{split}_feeder_args") or {}) for split in ("train", "test"))
    added: dict[str, Any] = {}
    frames = {"window_size": train.get("clip_len", 100)} | _pipeline_args(train.get("pipeline")) | train
    if values.get("mixing", "shap_mix") == "shap_mix" and "mixing_args" not in values and frames["window_size"] == 100:
        added["mixing_args"] = {"window": [13, 20]}
        log.info("%s: mixing_args: {window: [13, 20]}, as its code has it for Kinetics", path)
    clips = (_pipeline_args(test.get("pipeline")) | test).get("num_clips")
    if clips is None:
        added["test_feeder_args"] = {**test, "num_clips": 10}
        log.info("%s: test_feeder_args: {num_clips: 10}; the official code shows one random clip", path)
    elif clips != 10:
        log.info("%s shows %s clip(s) in the test; ours are ten: --set test_feeder_args.num_clips=10", path, clips)
    return added


def translate_feeder_args(feeder: str, args: Mapping[str, Any], known: Collection[str], where: str) -> dict[str, Any]:
    """Official arguments of a feeder to ours, but for those that the feeder itself takes.

    Args:
        feeder: its class path.
        args: as given.
        known: the arguments that it takes.
        where: file and key, for the log.
    """
    args = dict(args)
    official = {name: args.pop(name) for name in OFFICIAL_FEEDER_ARGS if name in args and name not in known}
    for name in official:
        log.info("%s.%s: %s", where, name, OFFICIAL_FEEDER_ARGS[name])
    if official.get("bone") or official.get("vel"):
        kind = "bone" if official.get("bone") else "joint"
        args.setdefault("stream", f"{kind}_motion" if official.get("vel") else kind)
    if feeder == "feeders.feeder_ucla.Feeder" and args.get("data_path") in OFFICIAL_UCLA_STREAMS:
        args.setdefault("stream", OFFICIAL_UCLA_STREAMS[args.pop("data_path")])
    if "clip_len" in official:
        args.setdefault("window_size", official["clip_len"])
    args = _pipeline_args(official.get("pipeline")) | args
    if "label_path" in official:
        held_out = re.search(r"(?<![a-z])(val|test)(?![a-z])", Path(str(official["label_path"])).stem)
        args.setdefault("split", "test" if held_out else "train")
    return args


def _pipeline_args(pipeline: Any) -> dict[str, Any]:
    """Our arguments for what a PYSKL pipeline, a list of steps, says of clips and stream."""
    args: dict[str, Any] = {}
    for step in pipeline if isinstance(pipeline, list) else []:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind in ("UniformSample", "UniformSampleFrames"):
            args["window_size"] = step.get("clip_len", 100)
            if "num_clips" in step:
                args["num_clips"] = step["num_clips"]
        elif kind == "GenSkeFeat":
            feats = " ".join(map(str, step.get("feats", ["j"])))
            args["stream"] = PYSKL_STREAMS.get(feats, feats)  # the feeder refuses other words
    return args
