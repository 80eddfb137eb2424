"""The feeder of 2D poses against a plain pipeline, sample by sample; its options; runs with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

import main
from feeders.feeder_pose import Feeder
from feeders.loader import StoreLoader
from feeders.store import DataError, SkeletonStore
from feeders.synthetic_pose import Feeder as Synthetic
from feeders.synthetic_pose import coco_joints, detect
from feeders.transforms import rotation_matrices
from feeders.uniform_sampling import test_clips as clips_at_test_time
from feeders.uniform_sampling import training_clips
from processor.answers import over_clips
from processor.build import build_network
from processor.config_files import load_config
from processor.data import load_data
from shapmix import LAYOUTS, ShapMix, exact_contributions
from shapmix.mixing import draw_mix, paste
from tests.conftest import annotations, tiny_config, write_pickle

COCO = LAYOUTS["coco17"]
STREAMS = ("joint", "bone", "joint_motion", "bone_motion")


@pytest.fixture(scope="module")
def pickled(tmp_path_factory) -> str:
    return str(write_pickle(tmp_path_factory.mktemp("pose") / "a.pkl", annotations()))


def plain(sequence: np.ndarray, frames: np.ndarray, stream: str) -> np.ndarray:
    """One clip (C, T, V, M), as PYSKL's steps have it: normalise, bones, motion, then take the frames."""
    x = sequence.astype(np.float64)
    x[..., 0], x[..., 1] = (x[..., 0] - 160) / 160, (x[..., 1] - 120) / 120
    x[x[..., 2] <= 0.01, :2] = 0
    if stream.startswith("bone"):
        bones = x.copy()
        for joint, neighbour in COCO.bones:
            bones[:, :, joint, :2] = x[:, :, joint, :2] - x[:, :, neighbour, :2]
            bones[:, :, joint, 2] = (x[:, :, joint, 2] + x[:, :, neighbour, 2]) / 2
        bones[:, :, COCO.center, :2] = 0
        x = bones
    if stream.endswith("motion"):
        motion = np.zeros_like(x)
        for frame in range(len(x) - 1):
            motion[frame, ..., :2] = x[frame + 1, ..., :2] - x[frame, ..., :2]
            motion[frame, ..., 2] = (x[frame + 1, ..., 2] + x[frame, ..., 2]) / 2
        x = motion
    return x[frames].transpose(3, 0, 2, 1)


@pytest.mark.parametrize("stream", STREAMS)
def test_against_a_plain_pipeline(pickled, stream):
    test = Feeder(ann_file=pickled, split="val", stream=stream, num_clips=10)
    wanted = [
        plain(test.store.sequence(member), frames, stream)
        for member in test.members
        for frames in clips_at_test_time(int(test.store.lengths[member]), 100, 10)
    ]
    x = test.batch(np.arange(len(test)))
    assert x.shape == (40, 3, 100, 17, 2)
    np.testing.assert_allclose(x.numpy(), np.stack(wanted), atol=1e-6)
    train = Feeder(ann_file=pickled, split="train", stream=stream, num_clips=10)
    draws = train.draw(8, torch.Generator().manual_seed(0))
    frames = training_clips(train.store.lengths[train.members], 100, draws.frames.double().numpy())
    wanted = [
        plain(train.store.sequence(member), clip, stream) for member, clip in zip(train.members, frames, strict=True)
    ]
    np.testing.assert_allclose(train.batch(np.arange(8), draws=draws).numpy(), np.stack(wanted), atol=1e-6)
    assert train.batch(np.arange(8)).shape[0] == 8, "one clip of the training set"


def test_flip(pickled):
    feeder = Feeder(ann_file=pickled, flip=0.5)
    draws = feeder.draw(8, torch.Generator().manual_seed(0))
    x = feeder.batch(np.arange(8), draws=draws)
    feeder.flip = 0.0
    straight = feeder.batch(np.arange(8), draws=draws)
    flipped = draws.flip < 0.5
    assert 0 < flipped.sum() < 8
    assert torch.equal(x[~flipped], straight[~flipped])
    left, right = COCO.joint("left_wrist"), COCO.joint("right_wrist")
    assert torch.equal(x[flipped][:, 0, :, left], -straight[flipped][:, 0, :, right])
    assert torch.equal(x[flipped][:, 1:, :, right], straight[flipped][:, 1:, :, left])
    nose = COCO.joint("nose")
    assert torch.equal(x[flipped][:, 0, :, nose], -straight[flipped][:, 0, :, nose])
    test = Feeder(ann_file=pickled, split="val", flip=1.0)
    assert torch.equal(test.batch([0]), Feeder(ann_file=pickled, split="val").batch([0])), "not without draws"


def test_turn_and_scale(pickled):
    feeder = Feeder(ann_file=pickled, random_rot=0.3, random_scale=0.2)
    draws = feeder.draw(8, torch.Generator().manual_seed(0))
    x = feeder.batch(np.arange(8), draws=draws).double()
    feeder.random_rot = feeder.random_scale = 0.0
    straight = feeder.batch(np.arange(8), draws=draws).double()
    angle = (draws.rotation[:, 0].double() * 2 - 1) * 0.3
    scale = 1 + (draws.scale.double() * 2 - 1) * 0.2
    for sample in range(8):
        turn = torch.tensor([[angle[sample].cos(), -angle[sample].sin()], [angle[sample].sin(), angle[sample].cos()]])
        wanted = torch.einsum("dc,ctvm->dtvm", scale[sample].diag() @ turn, straight[sample, :2])
        torch.testing.assert_close(x[sample, :2], wanted, atol=1e-5, rtol=0)
    assert torch.equal(x[:, 2], straight[:, 2])
    assert angle.abs().max() <= 0.3


def test_a_pickle_is_packed_once(pickled, tmp_path, monkeypatch):
    first = Feeder(ann_file=pickled, cache_dir=str(tmp_path))
    monkeypatch.setattr("feeders.feeder_pose.read_poses", lambda *_: pytest.fail("read again"))
    again = Feeder(ann_file=pickled, split="val", cache_dir=str(tmp_path))
    assert again.store.path == first.store.path
    assert Feeder(pickled, cache_dir=str(tmp_path)).store.path == first.store.path, "data_path may name the pickle"
    assert isinstance(again.store.frames, np.memmap)
    assert np.bincount(first.labels).tolist() == [3, 3, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "test"}, ["has no split 'test'; there are train, val"]),
        ({"num_clips": 0}, ["num_clips must be at least 1"]),
        ({"flip": 2.0}, ["flip a share"]),
        ({"layout": "ntu25"}, ["no usable sequence among 12", "17 joints, layout ntu25 has 25"]),
        ({"data_path": "x"}, ["either data_path", "or ann_file"]),
        ({"ann_file": "absent.pkl"}, ["annotation file absent.pkl does not exist"]),
        ({"ann_file": None, "data_path": "absent"}, ["absent is not a prepared store", "tools.prepare_pose"]),
        ({"stream": "limbs"}, ["stream must be one of joint, bone"]),
    ],
)
def test_bad_options(pickled, options, words):
    with pytest.raises(DataError) as error:
        Feeder(**{"ann_file": pickled, **options})
    for word in words:
        assert word in str(error.value)


def test_videos_without_people_obey_on_bad_sample(tmp_path, caplog):
    """In the validation split too, where a detector may see nobody."""
    content = annotations(boxes=True)
    for number in (2, 9):
        content["annotations"][number] |= {"box_score": np.zeros(len(content["annotations"][number]["frame_inds"]))}
    path = str(write_pickle(tmp_path / "a.pkl", content))
    for split, number, name in (("train", 8, "video_002"), ("val", 4, "video_009")):
        with pytest.raises(DataError, match=rf"1 {split} sample\(s\) cannot be used: {name} no people: none of"):
            Feeder(ann_file=path, split=split, box_thr=0.5)
        feeder = Feeder(ann_file=path, split=split, box_thr=0.5, on_bad_sample="skip")
        assert len(feeder) == number - 1
        assert f"left out 1 of {number}" in caplog.text
    assert len(Feeder(ann_file=path, split="val", box_thr=0.5, boxes="published")) == 4, "all boxes of a test video"


def test_skeletons_turn_and_scale(tmp_path):
    content = annotations(people=1)
    for number, one in enumerate(content["annotations"]):
        one["keypoint"] = np.random.default_rng(number).normal(size=(1, 9, 20, 3)).astype(np.float32)
        del one["keypoint_score"], one["img_shape"]
    feeder = Feeder(ann_file=str(write_pickle(tmp_path / "a.pkl", content)), window_size=16, flip=1.0)
    draws = feeder.draw(8, torch.Generator().manual_seed(0))
    assert [tuple(part.shape) for part in vars(draws).values()] == [(8, 17), (8,), (8, 3), (8, 3)]
    assert feeder.coordinates == 3
    flipped = feeder.batch(np.arange(8), draws=draws)
    feeder.flip = 0.0
    straight = feeder.batch(np.arange(8), draws=draws)
    left, right = feeder.layout.joint("left_hand"), feeder.layout.joint("right_hand")
    torch.testing.assert_close(
        flipped[:, :, :, left], straight[:, :, :, right] * torch.tensor([-1, 1, 1]).view(1, 3, 1, 1)
    )
    feeder.random_rot, feeder.random_scale = 0.3, 0.2
    x = feeder.batch(np.arange(8), draws=draws).double()
    scale = 1 + (draws.scale.double() * 2 - 1) * 0.2
    matrices = rotation_matrices((draws.rotation.double() * 2 - 1) * 0.3)
    wanted = torch.einsum("nd,ndc,nctvm->ndtvm", scale, matrices, straight.double())
    torch.testing.assert_close(x, wanted, atol=1e-5, rtol=0)


def test_lists_of_names(pickled, tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("video_005\nvideo_001\n")
    feeder = Feeder(ann_file=pickled, split_path=str(path))
    assert feeder.ids == ["video_001", "video_005"]
    assert len(Feeder(ann_file=pickled, split="val", split_path=str(path))) == 4
    path.write_text("video_005\nvideo_009\nghost\n")
    with pytest.raises(DataError, match=r"some.txt names 2 sequences that are not in split train .*\(1 of them are in"):
        Feeder(ann_file=pickled, split_path=str(path))
    assert Feeder(ann_file=pickled, split_path=str(path), on_bad_sample="skip").ids == ["video_005"]


def test_recipes_live_side_by_side(tmp_path):
    """A split with other thresholds has a store of its own, which does not replace the first."""
    path = str(write_pickle(tmp_path / "a.pkl", annotations(boxes=True)))
    first, second = Feeder(ann_file=path).store, Feeder(ann_file=path, box_thr=0.5, on_bad_sample="skip").store
    assert first.path != second.path
    assert first.path.is_dir()


def test_a_store_of_other_data(tmp_path):
    store = Synthetic(n_max=2, imbalance=1, cache_dir=str(tmp_path)).store
    with pytest.raises(DataError, match=r"was not written by tools\.prepare_pose"):
        Feeder(str(store.path))


def test_layout_without_sides(tmp_path):
    layout = {"name": "two", "joint_names": ["a", "b"], "bones": [[1, 0]], "parts": {"x": [0], "y": [1]}}
    content = annotations()
    for one in content["annotations"]:
        one["keypoint"], one["keypoint_score"] = one["keypoint"][:, :, :2], one["keypoint_score"][:, :, :2]
    path = str(write_pickle(tmp_path / "a.pkl", content))
    assert Feeder(ann_file=path, layout=layout).batch([0]).shape == (1, 3, 100, 2, 2)
    with pytest.raises(ValueError, match=r"layout 'two' has no pairs of joints called left_"):
        Feeder(ann_file=path, layout=layout, flip=0.5)


# --- clips -----------------------------------------------------------------------------------------------------------


def test_probabilities_are_averaged():
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    wanted = logits.softmax(1).view(2, 3, 5).mean(1)
    torch.testing.assert_close(over_clips(logits, 3).softmax(1), wanted)
    torch.testing.assert_close(over_clips(logits, 3).exp(), wanted, msg="logarithms of probabilities")
    assert over_clips(logits, 1) is logits


def test_loader_gives_clips(pickled):
    loader = StoreLoader(Feeder(ann_file=pickled, split="val", num_clips=4), 2, 0, torch.device("cpu"))
    batches = list(loader.in_order(3))
    assert [(len(batch.x), len(batch.y), batch.clips) for batch in batches] == [(12, 3, 4), (4, 1, 4)]


# --- the method on poses ---------------------------------------------------------------------------------------------


class Spy(torch.nn.Module):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x):
        self.seen.append(x)
        return x.flatten(1).sum(1, keepdim=True) * torch.tensor([0.001, -0.001])


def test_absent_parts_are_replaced_in_all_frames():
    """100 frames and 17 joints: the baseline replaces absent parts up to the last frame, on the layout's joints."""
    x, baseline = torch.rand(1, 3, 100, 17, 2), torch.full((3, 100, 17, 2), 7.0)
    spy = Spy()
    exact_contributions(spy, x, torch.tensor([0]), baseline, COCO, [(0, 1)])
    shown = torch.cat(spy.seen)
    replaced = (shown == 7.0).all(dim=(1, 4))
    assert (replaced.all(1) == replaced.any(1)).all(), "each joint is replaced in all frames or in none"
    patterns = {tuple(row.nonzero().flatten().tolist()) for row in replaced[:, 0]}
    parts = [set(joints) for joints in COCO.parts.values()]
    for pattern in patterns:
        assert set(pattern) == set().union(*(part for part in parts if part <= set(pattern)))
    assert tuple(sorted(set(range(17)) - parts[0] - parts[1])) in patterns
    assert len(patterns) == 16, "8 contexts, with the coalition and without"


def test_table_and_shares_use_the_layouts_counts():
    mixer = ShapMix(COCO, [10, 5], torch.zeros(3, 100, 17, 2))
    sizes = [len(joints) for joints in COCO.parts.values()]
    assert sizes == [5, 3, 3, 3, 3]
    gain = dict(zip(mixer.saliency.coalitions, mixer.saliency.gain, strict=True))
    assert gain[0, 1] == pytest.approx(10 / 8)
    assert gain[1, 2, 4] == pytest.approx(10 / 9)
    longest = 0
    for seed in range(200):
        draws = draw_mix(2, 100, 5, (2, 3), torch.Generator().manual_seed(seed), 1.0, (13, 20))
        x = torch.zeros(2, 3, 100, 17, 2)
        x[1] = 1.0
        joints = COCO.membership()[[0, 3]].any(0).expand(2, -1)
        mixed, share = paste(x, x.flip(0), joints, draws)
        assert float(share[0]) == pytest.approx(float(mixed[0].mean()))
        assert float(share[0]) == pytest.approx(draws.target_len * 8 / 1700)
        longest = max(longest, draws.target_start + draws.target_len)
    assert longest == 100, "pasting reaches the last frame"


# --- the made-up set, and runs ---------------------------------------------------------------------------------------


def test_synthetic_poses():
    standing = np.zeros((2, 25, 3))
    standing[:, :, 2] = 3.0
    names = LAYOUTS["ntu25"].joint_names
    for joint, (x, y) in {
        "left_shoulder": (-0.2, 0.4),
        "right_shoulder": (0.2, 0.4),
        "neck": (0, 0.5),
        "head": (0, 0.65),
    }.items():
        standing[:, names.index(joint), :2] = x, y
    joints = coco_joints(standing)
    nose, left_ear = joints[0, COCO.joint("nose")], joints[0, COCO.joint("left_ear")]
    np.testing.assert_allclose(nose, [0, 0.63, 2.89], atol=1e-12, err_msg="before the head, towards the camera")
    np.testing.assert_allclose(left_ear, [-0.075, 0.65, 3.0], atol=1e-12)
    seen = detect(np.repeat(joints, 500, axis=0), np.random.default_rng(0)).astype(float)
    assert seen.shape == (1000, 1, 17, 3)
    missed = seen[..., 2] == 0
    assert 0.01 < missed.mean() < 0.03
    assert (seen[missed] == 0).all()
    sure = seen[:, 0, COCO.joint("left_shoulder")]
    sure = sure[sure[:, 2] > 0.4]
    np.testing.assert_allclose(np.median(sure[:, :2], axis=0), [320 + 380 * 0.2 / 3, 240 - 380 * 0.4 / 3], atol=0.5)


def test_synthetic_set_is_the_same_every_time(tmp_path):
    sets = [Synthetic(n_max=4, imbalance=2, cache_dir=str(tmp_path / name)) for name in ("a", "b")]
    assert sets[0].store.checksum == sets[1].store.checksum
    test = Synthetic("test", num_test=2, cache_dir=str(tmp_path / "a"))
    assert test.store.checksum != sets[0].store.checksum


@pytest.mark.parametrize("stream", ["joint", "bone_motion"])
def test_a_run_on_poses(tmp_path, stream):
    values = tiny_config(tmp_path, feeder="feeders.synthetic_pose.Feeder", eval_interval=1)
    values["feeder_args"] |= {"stream": stream}
    values["test_feeder_args"] |= {"num_clips": 3}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main.main(["--config", str(path)]) == 0
    with np.load(tmp_path / "run" / "scores_test.npz") as scores:
        np.testing.assert_allclose(np.exp(scores["scores"].astype(float)).sum(1), 1, atol=1e-5)
        assert len(scores["ids"]) == 24


OFFICIAL = """
feeder: pyskl_datasets.pose_dataset.PoseDataset
train_feeder_args:
  ann_file: ANN
  split: train
  box_thr: '0.5'
  valid_ratio: 0.0
  pipeline:
  - {type: PreNormalize2D}
  - {type: GenSkeFeat, dataset: coco, feats: [b]}
  - {type: UniformSample, clip_len: 100}
  - {type: PoseDecode}
  - {type: FormatGCNInput, num_person: 2}
test_feeder_args:
  ann_file: ANN
  split: val
  test_mode: true
  pipeline:
  - {type: GenSkeFeat, dataset: coco, feats: [b]}
  - {type: UniformSample, clip_len: 100, num_clips: 10, test_mode: true}
model: model.ctrgcn.Model
model_args: {num_class: 3, num_point: 17, num_person: 2, graph: graph.kinect.Graph}
naive_mix_epoch: 5
naive_estimate_epoch: 5
ema: 0.9
base_lr: 0.1
cos: true
batch_size: 80
num_epoch: 70
weight_decay: 0.0005
"""


@pytest.mark.parametrize(
    ("step", "clips", "said"),
    [
        ("clip_len: 100, num_clips: 10, test_mode: true", 10, None),
        ("clip_len: 100, num_clips: 1", 1, "shows 1 clip(s) in the test; ours are ten"),
        ("clip_len: 100", 10, "test_feeder_args: {num_clips: 10}; the official code shows one random clip"),
    ],
)
def test_kinetics_recipe_of_official_yaml(pickled, tmp_path, caplog, step, clips, said):
    """The segments that are pasted, and the clips of the test, which its YAML does not name."""
    path = tmp_path / "k400.yaml"
    text = OFFICIAL.replace("ANN", pickled).replace("clip_len: 100, num_clips: 10, test_mode: true", step)
    path.write_text(text)
    caplog.set_level("INFO")
    config = load_config(str(path))
    assert config.mixing_args == {"window": [13, 20]}
    assert config.split_args("test").get("num_clips") == clips
    assert "num_clips" not in config.split_args("train")
    assert said is None or said in caplog.text
    path.write_text(text.replace("clip_len: 100", "clip_len: 64") + "mixing_args: {window: [3, 5]}\n")
    assert load_config(str(path)).mixing_args == {"window": [3, 5]}


@pytest.mark.parametrize(("feats", "named"), [("[x]", "'x'"), ("[j, b]", "'j b'")])
def test_streams_that_are_not_offered(pickled, tmp_path, feats, named, capsys):
    path = tmp_path / "official.yaml"
    path.write_text(OFFICIAL.replace("ANN", pickled).replace("feats: [b]", f"feats: {feats}"))
    assert main.main(["--config", str(path), "--work_dir", str(tmp_path / "run")]) == 2
    assert f"stream must be one of joint, bone, joint_motion, bone_motion, got {named}" in capsys.readouterr().err


def test_official_yaml(pickled, tmp_path, caplog):
    path = tmp_path / "official.yaml"
    path.write_text(OFFICIAL.replace("ANN", pickled))
    caplog.set_level("INFO")
    config = load_config(str(path))
    assert config.feeder == "feeders.feeder_pose.Feeder"
    assert config.schedule == "cosine"
    data = load_data(config, torch.device("cpu"))
    train, test = data.feeders["train"], data.feeders["test"]
    assert (train.stream, train.window_size, train.num_clips, test.num_clips) == ("bone", 100, 1, 10)
    assert (len(train), len(test)) == (8, 4)
    build_network(config, data, torch.device("cpu"))
    assert "pipeline: window_size and num_clips of its UniformSample" in caplog.text
    assert isinstance(train.store, SkeletonStore)
