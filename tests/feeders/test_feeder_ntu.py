"""NTU's feeders: what each option shows, over-sampling, names of .npz files, lists, validation splits, protocols."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from feeders import loader
from feeders.convert.ctrgcn_npz import write_arrays
from feeders.feeder_ntu import Feeder, Feeder_LT_nosample, Feeder_LT_ros
from feeders.feeder_ucla import Feeder as UCLA
from feeders.loader import StoreLoader
from feeders.ntu_protocols import CLASSES, LAYOUT, PROTOCOLS, parse_names
from feeders.store import DataError, SkeletonStore
from feeders.transforms import move, neighbouring_frames, random_crop, rotate, rotation_matrices, to_stream
from processor.build import build
from processor.config_files import load_config
from processor.data import load_data, mean_sequence
from processor.errors import ConfigError
from shapmix import distributed
from tests.conftest import ntu_names, write_ntu_store, write_ucla

NAMES = ntu_names(setups=(1, 2, 17, 18), subjects=(1, 2, 3), actions=(1, 2, 60))  # 1 and 2 train, 3 tests


def clock(length, actors=1, rate=1.0):
    """(length, actors, 25, 3): x is the frame, y the joint, z the actor, all from 1."""
    frames = np.zeros((length, actors, 25, 3))
    frames[..., 0] = (np.arange(length) * rate + 1)[:, None, None]
    frames[..., 1] = np.arange(25) + 1
    frames[..., 2] = (np.arange(actors) + 1)[:, None]
    return frames


@pytest.fixture(scope="module")
def ntu120(tmp_path_factory) -> str:
    """108 sequences; those of action 60 have two actors."""
    rng = np.random.default_rng(0)
    sequences = {
        name: rng.normal(size=(int(rng.integers(5, 30)), 1 + name.endswith("060"), 25, 3)).astype(np.float32)
        for name in NAMES
    }
    return str(write_ntu_store(tmp_path_factory.mktemp("stores") / "ntu120", sequences))


def clocks(folder, lengths, **options):
    """A training feeder of clocks of these lengths."""
    names = [f"S001C001P001R{number:03d}A001" for number in range(1, len(lengths) + 1)]
    sequences = dict(zip(names, map(clock, lengths), strict=True))
    path = write_ntu_store(folder / "clocks", sequences, "ntu60")
    return Feeder(str(path), protocol="ntu60_xsub", **options)


def draws_of(feeder, rows, seed=0):
    return feeder.draw(len(rows), torch.Generator().manual_seed(seed))


def shown(feeder, draws=None):
    """(N, T) frames that the clocks show, counted from 0; -1 where there is no actor."""
    return feeder.batch(np.arange(len(feeder)), draws=draws)[:, 0, :, 0, 0].numpy() - 1


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_published_order(ntu120):
    """Training subject 1 before 2, set-up 2 before 18, camera 2 before 3, by name within each."""
    columns = parse_names(NAMES)
    for protocol, rule in PROTOCOLS.items():
        for split in ("train", "test"):
            wanted = [
                name
                for value in sorted(set(columns[rule.by].tolist()))
                for name, own, setup in zip(NAMES, columns[rule.by], columns["setup"], strict=True)
                if own == value and (value in rule.train) == (split == "train")
                and (rule.dataset == "ntu120" or setup <= 17)
            ]  # fmt: skip
            assert Feeder(ntu120, split, protocol).ids == wanted
    assert Feeder(ntu120, "train", "ntu120_xset").class_names == list(CLASSES)
    assert Feeder(ntu120, "train", "ntu60_xview").class_names == list(CLASSES[:60])


def test_test_view(ntu120):
    feeder = Feeder(ntu120, "test", "ntu60_xsub", random_rot=True, random_choose=True, random_shift=True)
    rows = np.arange(4)
    x = feeder.batch(rows)
    assert x.shape == (4, 3, 64, 25, 2)
    for row in rows:
        frames = torch.from_numpy(np.array(feeder.store.sequence(feeder.members[row])))
        cut = int(0.05 * len(frames) / 2)
        frames = frames[cut : len(frames) - cut].permute(3, 0, 2, 1).flatten(2)
        wanted = torch.nn.functional.interpolate(frames[None], (64, 50), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(x[row], wanted.view(3, 64, 25, 2), rtol=0, atol=1e-5)


def test_second_actor(ntu120):
    """In a sequence with one actor: 0 for NTU 60, a copy of the first for NTU 120, in every stream and view."""
    for stream in ("joint", "bone_motion"):
        for protocol in ("ntu60_xsub", "ntu120_xsub"):
            feeder = Feeder(ntu120, "train", protocol, stream, random_rot=True, random_move=True)
            rows = np.arange(len(feeder))
            alone = torch.from_numpy(feeder.labels != 59)
            for draws in (None, draws_of(feeder, rows)):
                x = feeder.batch(rows, draws=draws)
                if protocol == "ntu120_xsub":
                    assert torch.equal(x[alone, ..., 0], x[alone, ..., 1])
                elif draws is None:
                    assert not x[alone, ..., 1].any()
                assert (x[~alone, ..., 0] != x[~alone, ..., 1]).any((1, 2, 3)).all()
            padded = feeder.padded_joints(rows)
            assert padded.shape == (len(rows), 3, 64, 25, 2)
            assert torch.equal(padded[alone, ..., 1], padded[alone, ..., 0] * (protocol == "ntu120_xsub"))


def test_p_interval(tmp_path):
    feeder = clocks(tmp_path, [200, 90, 30], p_interval=[0.5, 1])
    assert clocks(tmp_path / "d", [200]).p_interval == (0.5, 1.0), "the default"
    draws = draws_of(feeder, range(3))
    draws.crop[:, 0] = torch.tensor([0.25, 0.5, 0.0])
    start, length = random_crop(np.array([200, 90, 30]), (0.5, 1), 64, draws.crop.double().numpy())
    assert length.tolist() == [125, 67, 30]
    left, right, weight = neighbouring_frames(start, length, 64)
    np.testing.assert_allclose(shown(feeder, draws), left + weight * (right - left), atol=1e-3)


@pytest.mark.parametrize("share", [0.5, [0.5], (0.5,)])
def test_one_share_is_the_middle(tmp_path, share):
    feeder = clocks(tmp_path, [200], p_interval=share)
    draws = draws_of(feeder, range(1))
    np.testing.assert_array_equal(shown(feeder, draws), shown(feeder))
    left, right, weight = neighbouring_frames(np.array([50]), np.array([100]), 64)
    np.testing.assert_allclose(shown(feeder), left + weight * (right - left), atol=1e-3)


@pytest.mark.parametrize("shares", [[0.5, 1.2], [0, 1], [], [0.1, 0.2, 0.3], -0.5])
def test_bad_shares(ntu120, shares):
    with pytest.raises(DataError, match=r"p_interval must be one or two shares in 0\.\.1"):
        Feeder(ntu120, protocol="ntu60_xsub", p_interval=shares)


def test_random_choose(tmp_path):
    """64 consecutive frames of longer sequences, at their own speed; all frames of shorter ones."""
    feeder = clocks(tmp_path, [200, 64, 40], random_choose=True)
    starts = set()
    for seed in range(20):
        draws = draws_of(feeder, range(3), seed)
        times = shown(feeder, draws)
        start = math.floor(float(draws.crop[0, 1]) * 137)
        np.testing.assert_allclose(times[0], np.arange(start, start + 64), atol=1e-4)
        starts.add(start)
        np.testing.assert_allclose(times[1], np.arange(64), atol=1e-4)
        left, right, weight = neighbouring_frames(np.array([0]), np.array([40]), 64)
        np.testing.assert_allclose(times[2], (left + weight * (right - left))[0], atol=1e-4)
    assert len(starts) > 15
    assert all(0 <= start <= 136 for start in starts)


@pytest.mark.parametrize("random_choose", [False, True])
def test_random_shift(tmp_path, random_choose):
    """Fewer than 64 frames lie somewhere among zeros, at their own speed; longer sequences are as without."""
    feeder = clocks(tmp_path, [200, 40, 1], random_shift=True, random_choose=random_choose)
    plain = Feeder(str(feeder.store.path), protocol="ntu60_xsub", random_choose=random_choose)
    places = set()
    for seed in range(20):
        draws = draws_of(feeder, range(3), seed)
        times = shown(feeder, draws)
        np.testing.assert_array_equal(times[0], shown(plain, draws)[0])
        for row, length in ((1, 40), (2, 1)):
            place = math.floor(float(draws.shift[row]) * (64 - length + 1))
            wanted = np.full(64, -1.0)
            wanted[place : place + length] = np.arange(length)
            np.testing.assert_allclose(times[row], wanted, atol=1e-4)
            places.add((row, place))
    assert len(places) > 20
    np.testing.assert_array_equal(shown(feeder), shown(plain), "not without draws")
    bones = Feeder(str(feeder.store.path), protocol="ntu60_xsub", random_shift=True, stream="bone")
    empty = shown(feeder, draws)[1] == -1
    assert not bones.batch(np.array([1]), draws=draws.map(lambda numbers: numbers[1:2]))[0, :, empty].any()


def test_random_rot(tmp_path):
    feeder = clocks(tmp_path, [80, 30], random_rot=True)
    plain = Feeder(str(feeder.store.path), protocol="ntu60_xsub", random_rot=False)
    draws = draws_of(feeder, range(2))
    turned, straight = (f.batch(np.arange(2), draws=draws) for f in (feeder, plain))
    angles = (draws.rotation * 2 - 1) * 0.3
    torch.testing.assert_close(turned, rotate(straight, rotation_matrices(angles)), rtol=0, atol=1e-4)
    assert (turned - straight).abs().max() > 1
    torch.testing.assert_close(turned.norm(dim=1), straight.norm(dim=1), rtol=1e-5, atol=1e-4)
    assert torch.equal(feeder.batch(np.arange(2)), plain.batch(np.arange(2))), "not without draws"
    assert not clocks(tmp_path / "d", [9]).random_rot, "off by default, as in CTR-GCN"


def test_random_move(tmp_path):
    feeder = clocks(tmp_path, [80, 30], random_move=True)
    plain = Feeder(str(feeder.store.path), protocol="ntu60_xsub")
    draws = draws_of(feeder, range(2))
    assert draws.move.shape == (2, 8)
    moved, straight = feeder.batch(np.arange(2), draws=draws), plain.batch(np.arange(2), draws=draws)
    torch.testing.assert_close(moved, move(straight, draws.move))
    assert not torch.equal(moved, straight)
    assert torch.equal(feeder.batch(np.arange(2)), plain.batch(np.arange(2))), "not without draws"


def test_move():
    """The middle of all ranges moves nothing; each number changes one thing, linearly in time."""
    x = torch.zeros(1, 3, 5, 1, 1)
    x[:, 0], x[:, 2] = 1, 7
    still = torch.full((1, 8), 0.5)
    torch.testing.assert_close(move(x, still), x)

    def moved(place, first, last):
        draws = still.clone()
        draws[0, 2 * place], draws[0, 2 * place + 1] = first, last
        return move(x, draws)[0, :, :, 0, 0]

    time = torch.linspace(0, 1, 5)
    angle = torch.deg2rad(-10 + 20 * time)
    torch.testing.assert_close(moved(0, 0, 1), torch.stack([angle.cos(), angle.sin(), torch.full((5,), 7.0)]))
    torch.testing.assert_close(moved(1, 0, 1), torch.stack([0.9 + 0.2 * time, 0 * time, 0 * time + 7]))
    torch.testing.assert_close(moved(2, 0, 1), torch.stack([0.8 + 0.4 * time, 0 * time, 0 * time + 7]))
    torch.testing.assert_close(moved(3, 1, 0), torch.stack([0 * time + 1, 0.2 - 0.4 * time, 0 * time + 7]))


def test_draws_belong_to_places(ntu120):
    """A slice of the rows with its slice of the draws gives that slice of the batch."""
    feeder = Feeder(
        ntu120, "train", "ntu120_xsub", random_rot=True, random_choose=True, random_shift=True, random_move=True
    )
    rows = np.arange(12)
    draws = draws_of(feeder, rows)
    whole = feeder.batch(rows, draws=draws)
    torch.testing.assert_close(
        feeder.batch(rows[5:9], draws=draws.map(lambda numbers: numbers[5:9])), whole[5:9], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("protocol", ["ntu60_xsub", "ntu120_xsub"])
def test_normalization(ntu120, protocol):
    """By mean and deviation of each joint and coordinate, over the training set's frames and actors."""
    plain, feeder, tested = (
        Feeder(ntu120, split, protocol, normalization=normal)
        for split, normal in (("train", False), ("train", True), ("test", True))
    )
    frames = []
    for member, label in zip(plain.members, plain.labels, strict=True):
        sequence = np.array(plain.store.sequence(member), dtype=np.float64)
        if protocol == "ntu120_xsub" and label != 59:
            sequence[:, 1] = sequence[:, 0]
        frames.append(sequence)
    whole = np.concatenate(frames).reshape(-1, 25, 3)
    mean, deviation = (torch.from_numpy(f(whole, axis=0).T[None, :, None, :, None]) for f in (np.mean, np.std))
    rows = np.arange(6)
    wanted = ((plain.batch(rows) - mean) / deviation).float()
    torch.testing.assert_close(feeder.batch(rows), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="normalization of split 'test' needs the training split"):
        tested.batch(rows)
    splits = {"train": feeder, "test": tested}
    tested.agree(splits)
    plain_test = Feeder(ntu120, "test", protocol)
    wanted = ((plain_test.batch(rows) - mean) / deviation).float()
    torch.testing.assert_close(tested.batch(rows), wanted, rtol=1e-4, atol=1e-5)


def test_normalization_is_that_of_what_is_trained_on(tmp_path, write_config):
    """Neither of held-out subjects nor of sequences that the list leaves out; the same in all splits of a run."""
    names = ntu_names(cameras=(1, 2), subjects=(1, 2, 3), actions=(1, 2))  # 1 and 2 train, 3 tests
    listed = [name for name in names if "P003" not in name and "C001" in name]
    kept = [name for name in listed if "P001" in name]
    rng = np.random.default_rng(0)
    far = {name: (0 if name in kept else 100) + rng.normal(size=(9, 2, 25, 3)) for name in names}
    store, path = write_ntu_store(tmp_path / "store", far), tmp_path / "list.txt"
    path.write_text("\n".join(listed))
    ntu = {"data_path": str(store), "protocol": "ntu60_xsub", "val_subjects": [2], "normalization": True}
    changes = {"feeder": "feeders.feeder_ntu.Feeder", "feeder_args": ntu, "test_feeder_args": {}}
    listed_only = {"split_path": str(path)}
    config = load_config(write_config(**changes, train_feeder_args=listed_only))
    feeders = load_data(config, torch.device("cpu")).feeders
    assert feeders["train"].ids == kept
    mean, deviation = feeders["train"].statistics
    frames = np.concatenate([far[name] for name in kept]).reshape(-1, 25, 3)
    np.testing.assert_allclose(mean[0, :, 0, :, 0].T, frames.mean(0), atol=1e-5)
    np.testing.assert_allclose(deviation[0, :, 0, :, 0].T, frames.std(0), atol=1e-5)
    assert set(feeders) == {"train", "val", "test"}
    assert all(feeder.statistics is feeders["train"].statistics for feeder in feeders.values())
    for keys, error in (
        ({"mixing_args": {"people": "present"}}, "finds absent people by their zeros; set feeder_args.normalization"),
        ({"mixing_args": {"body": "bones"}}, "body: bones needs joint positions; set feeder_args.normalization: false"),
        ({"mixing_args": {"body": "bones"}, "mix_stage": "frames"}, None),  # mixed before it is normalised
    ):
        config = load_config(write_config(**changes, train_feeder_args=listed_only, **keys))
        data = load_data(config, torch.device("cpu"))
        with pytest.raises(ConfigError, match=error) if error else nullcontext():
            build(config, data, torch.device("cpu"))
    ntu["normalization"] = False
    config = load_config(write_config(**changes, train_feeder_args={"normalization": True}))
    with pytest.raises(DataError, match="normalization differs between the splits; set it in feeder_args"):
        load_data(config, torch.device("cpu"))


@pytest.mark.parametrize("shares", [{"test": [0.5]}, {"train": [0.7]}, {"train": [0.6, 0.9], "test": 0.8}])
def test_baseline_is_cropped_as_the_test_split(ntu120, write_config, shares):
    changes = {f"{split}_feeder_args": {"p_interval": share} for split, share in shares.items()}
    changes = {"train_feeder_args": {}, "test_feeder_args": {}, **changes}
    ntu = {"data_path": ntu120, "protocol": "ntu60_xsub", "window_size": 16}
    config = load_config(write_config(feeder="feeders.feeder_ntu.Feeder", feeder_args=ntu, **changes))
    loader = load_data(config, torch.device("cpu")).loaders["train"]
    wanted = Feeder(**ntu, p_interval=shares.get("test", 0.95))
    rows = np.arange(len(wanted))
    torch.testing.assert_close(mean_sequence(loader, 7), wanted.batch(rows).double().mean(0).float())
    draws = wanted.draw(len(rows), torch.Generator().manual_seed(0))
    own = Feeder(**ntu, p_interval=shares.get("train"))
    assert torch.equal(loader.feeder.batch(rows, draws=draws), own.batch(rows, draws=draws)), "training stays as it is"


def test_normalization_of_what_is_constant(tmp_path):
    """It becomes 0."""
    names = ntu_names(cameras=(1,), subjects=(1, 2), actions=(1,))
    path = write_ntu_store(tmp_path / "store", {name: clock(9) for name in names})
    x = Feeder(str(path), protocol="ntu120_xsub", normalization=True).batch(np.arange(2))
    assert x.isfinite().all()
    assert not x[:, 1:].any(), "y and z are the same in all frames"
    assert x[:, 0].any()


def test_debug(ntu120, tmp_path):
    feeder = clocks(tmp_path, [2] * 120, debug=True)
    assert len(feeder) == 100
    assert feeder.ids == [f"S001C001P001R{number:03d}A001" for number in range(1, 101)]
    assert len(Feeder(ntu120, "test", "ntu60_xsub", debug=True)) == 27, "all of fewer than 100"


def test_use_mmap(ntu120):
    mapped, loaded = (Feeder(ntu120, "train", "ntu120_xsub", use_mmap=use) for use in (True, False))
    assert isinstance(mapped.store.frames, np.memmap)
    assert not isinstance(loaded.store.frames, np.memmap)
    assert torch.equal(mapped.batch(np.arange(9)), loaded.batch(np.arange(9)))
    assert mapped.checksum == loaded.checksum


@pytest.mark.parametrize(
    ("bone", "vel", "stream"),
    [
        (False, False, "joint"),
        (True, False, "bone"),
        (False, True, "joint_motion"),
        (True, True, "bone_motion"),
    ],
)
def test_bone_and_vel_name_the_stream(ntu120, bone, vel, stream):
    old = Feeder(ntu120, "train", "ntu60_xsub", bone=bone, vel=vel)
    new = Feeder(ntu120, "train", "ntu60_xsub", stream)
    joints = Feeder(ntu120, "train", "ntu60_xsub").batch(np.arange(5))
    assert old.stream == new.stream == stream
    assert torch.equal(old.batch(np.arange(5)), new.batch(np.arange(5)))
    assert torch.equal(old.batch(np.arange(5)), to_stream(joints, LAYOUT, stream))
    assert Feeder(ntu120, "train", "ntu60_xsub", stream, bone=bone, vel=vel).stream == stream, "both may say the same"
    for other in {"joint", "bone", "joint_motion", "bone_motion"} - {stream}:
        if bone or vel:
            with pytest.raises(DataError, match=f"stream is {other}, but bone and vel say {stream}; give one of them"):
                Feeder(ntu120, "train", "ntu60_xsub", other, bone=bone, vel=vel)


def test_unknown_values(ntu120, tmp_path):
    for options, wanted in (
        ({"stream": "bones"}, "stream must be one of joint, bone, joint_motion, bone_motion, got 'bones'"),
        ({"split": "validation"}, "split must be one of train, val, test, got 'validation'"),
        ({"protocol": "ntu60_cs"}, "protocol must be one of ntu60_xsub, ntu60_xview, ntu120_xsub, .*, got 'ntu60_cs'"),
        ({"protocol": None}, "holds all splits; set protocol to one of ntu60_xsub, ntu60_xview"),
        ({"window_size": 2}, "window_size must be at least 4"),
        (
            {"data_path": str(tmp_path)},
            "is not a prepared store or an .npz file, it is a folder; write one with python -m tools.prepare",
        ),
        ({"data_path": str(tmp_path / "a.npz")}, r"a.npz does not exist; set data_path to CTR-GCN's .npz file"),
    ):
        with pytest.raises(DataError, match=wanted):
            Feeder(**{"data_path": ntu120, "protocol": "ntu60_xsub", **options})


def test_protocol_of_another_data_set(tmp_path):
    path = str(write_ntu_store(tmp_path / "ntu60", {name: clock(3) for name in NAMES if name < "S018"}, "ntu60"))
    assert len(Feeder(path, protocol="ntu60_xview")) == 54
    with pytest.raises(DataError, match="holds ntu60; ntu120_xsub needs a store of ntu120"):
        Feeder(path, protocol="ntu120_xsub")


def test_store_of_something_else(tmp_path):
    folder = write_ucla(tmp_path / "all_sqe")
    store = UCLA(str(folder)).store
    with pytest.raises(DataError, match=r"was not written by tools\.prepare_ntu"):
        Feeder(str(store.path), protocol="ntu60_xsub")


# --- long-tailed: lists, sampling ------------------------------------------------------------------------------------


def listed(path, names):
    path.write_text("\n".join(names) + "\n")
    return str(path)


@pytest.fixture
def tail(tmp_path) -> tuple[str, str]:
    """(store, list): 27, 9 and 1 training sequences of actions 1, 2 and 60."""
    names = ntu_names(setups=range(1, 10), subjects=(1,), actions=(1, 2, 60))
    store = write_ntu_store(tmp_path / "store", {name: clock(2) for name in names}, "ntu60")
    kept = [name for name in names if name.endswith("A001")] + [name for name in names if name.endswith("A002")][:9]
    kept.append(next(name for name in names if name.endswith("A060")))
    return str(store), listed(tmp_path / "list.txt", [*kept[::-1]])


def test_list(tail):
    for kind in (Feeder, Feeder_LT_nosample, Feeder_LT_ros):
        feeder = kind(tail[0], protocol="ntu60_xsub", split_path=tail[1])
        assert len(feeder) == 37
        assert np.bincount(feeder.labels)[[0, 1, 59]].tolist() == [27, 9, 1]
        assert len(feeder.labels) == 37
    with pytest.raises(DataError, match="no sample in split 'test'"):
        Feeder_LT_nosample(tail[0], "test", "ntu60_xsub", split_path=tail[1])


def test_list_does_not_touch_the_test_set(ntu120, tmp_path):
    path = listed(tmp_path / "list.txt", [name for name in NAMES if "P001" in name][:3])
    for kind in (Feeder_LT_nosample, Feeder_LT_ros):
        assert len(kind(ntu120, "test", "ntu120_xsub", split_path=path)) == 36
        assert len(kind(ntu120, "test", "ntu120_xsub")) == 36
        with pytest.raises(DataError, match=rf"{kind.__name__} needs split_path: a list such as NTU120_xsub_exp_100"):
            kind(ntu120, "train", "ntu120_xsub")


def test_bad_lists(ntu120, tmp_path):
    train = [name for name in NAMES if "P001" in name]
    test = [name for name in NAMES if "P003" in name]
    unknown = [f"S020C001P001R001A{action:03d}" for action in range(1, 8)]

    def reading(names, **options):
        path = listed(tmp_path / "list.txt", names)
        return Feeder_LT_nosample(ntu120, protocol="ntu120_xsub", split_path=path, **options)

    assert len(reading([f"{name}.skeleton" for name in train])) == 36
    with pytest.raises(DataError) as error:
        reading([*train, *unknown])
    assert "names 7 sequences that are not in the training set" in str(error.value)
    assert f": {', '.join(unknown[:5])}. Is it the list of another split?" in str(error.value)
    with pytest.raises(DataError, match=r"names 2 sequences .*\(2 of them are in its test set\)"):
        reading([*train, *test[:2]])
    with pytest.raises(DataError, match=f"names 2 sequences twice: {train[0]}, {train[3]}"):
        reading([*train, train[0], train[3], train[0]])
    with pytest.raises(DataError, match=r"list\.txt is empty"):
        reading([])
    with pytest.raises(DataError, match=r"none.txt cannot be read .*; write one with python -m tools.make_longtail"):
        Feeder(ntu120, protocol="ntu120_xsub", split_path=str(tmp_path / "none.txt"))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(DataError, match=r"binary\.txt cannot be read"):
        Feeder(ntu120, protocol="ntu120_xsub", split_path=str(tmp_path / "binary.txt"))


def test_unknown_names_can_be_left_out(ntu120, tmp_path, caplog):
    path = listed(tmp_path / "list.txt", [*NAMES[:2], "S020C001P001R001A001"])
    with caplog.at_level(logging.WARNING):
        feeder = Feeder(ntu120, protocol="ntu120_xsub", split_path=path, on_bad_sample="skip")
    assert feeder.ids == NAMES[:2]
    assert "left out 1 unknown sequences: S020C001P001R001A001" in caplog.text
    path = listed(tmp_path / "list.txt", ["S020C001P001R001A001"])
    with pytest.raises(DataError, match="no sample in split 'train'"):
        Feeder(ntu120, protocol="ntu120_xsub", split_path=path, on_bad_sample="skip")


@pytest.mark.parametrize("kind", [Feeder, Feeder_LT_nosample])
def test_class_balance_has_no_effect(tail, kind, caplog):
    plain = kind(tail[0], protocol="ntu60_xsub", split_path=tail[1])
    with caplog.at_level(logging.INFO):
        asked = kind(tail[0], protocol="ntu60_xsub", split_path=tail[1], class_balance=True)
    assert f"class_balance has no effect on {kind.__name__}, as in the official code" in caplog.text
    loaders = [StoreLoader(feeder, 8, 1, torch.device("cpu")) for feeder in (plain, asked)]
    assert torch.equal(loaders[0].plan(3), loaders[1].plan(3))
    assert torch.bincount(loaders[0].plan(0).flatten(), minlength=37).max() == 1


def plan_of(tail, monkeypatch=None, rank=0, processes=1, batch_size=8, seed=1, **options):
    if monkeypatch is not None:
        for module in (loader, distributed):
            monkeypatch.setattr(module, "world", lambda: (rank, processes))
    feeder = Feeder_LT_ros(tail[0], protocol="ntu60_xsub", split_path=tail[1], **options)
    return feeder, StoreLoader(feeder, batch_size, seed, torch.device("cpu"))


def test_round_robin(tail):
    """The official epoch of class_balance: four times the set, the classes in turn, shuffled."""
    feeder, _ = plan_of(tail, class_balance=True)
    batches = StoreLoader(feeder, 4, 1, torch.device("cpu"), sampler="round_robin")
    assert batches.samples_per_epoch == 4 * 37 == batches.plan(0).numel()
    rows = [batches.plan(epoch).flatten() for epoch in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    labels = feeder.labels[rows[0].numpy()]
    assert sorted((labels == k).sum() for k in (0, 1, 59)) == [49, 49, 50]
    assert len(set(rows[0].tolist()) & set(np.flatnonzero(feeder.labels == 0))) > 10, "different samples of a class"


def test_over_sampling(tail):
    """Classes are equally frequent, and so are the sequences of a class, up to one."""
    feeder, batches = plan_of(tail, batch_size=81)
    assert batches.samples_per_epoch == 3 * 27
    assert batches.steps == 1
    rows = batches.plan(0).flatten()
    times = torch.bincount(rows, minlength=37).numpy()
    assert [int(times[feeder.labels == k].sum()) for k in (0, 1, 59)] == [27, 27, 27]
    assert sorted(set(times[feeder.labels == 0])) == [1]
    assert sorted(set(times[feeder.labels == 1])) == [3]
    assert batches.class_counts[0] == 27
    assert batches.class_counts[59] == 1, "the class counts are those of the list"
    feeder, batches = plan_of(tail, batch_size=81, repeat=2)
    assert torch.bincount(batches.plan(0).flatten(), minlength=37)[feeder.labels == 59].item() == 54


def test_over_sampling_of_a_class_that_does_not_divide(tmp_path):
    names = ntu_names(setups=range(1, 11), cameras=(1,), subjects=(1,), actions=(1, 2))
    store = write_ntu_store(tmp_path / "store", {name: clock(2) for name in names}, "ntu60")
    path = listed(tmp_path / "list.txt", [name for name in names if name.endswith("1") or name < "S004"])
    feeder, batches = plan_of((str(store), path), batch_size=20)
    times = [torch.bincount(batches.plan(epoch).flatten(), minlength=13).numpy() for epoch in range(8)]
    for counted in times:
        assert sorted(counted[feeder.labels == 1]) == [3, 3, 4]
    assert len({int(counted[feeder.labels == 1].argmax()) for counted in times}) > 1, "not always the same one"


def test_class_balanced(tail):
    """As many as there are; each of three classes has a third, shared equally by its sequences."""
    feeder, batches = plan_of(tail, class_balance=True, batch_size=37)
    assert batches.samples_per_epoch == 37
    rows = torch.cat([batches.plan(epoch).flatten() for epoch in range(300)])
    times = torch.bincount(rows, minlength=37).numpy() / len(rows)
    for label, number in ((0, 27), (1, 9), (59, 1)):
        share = times[feeder.labels == label]
        assert share.sum() == pytest.approx(1 / 3, abs=5 * math.sqrt(2 / 9 / len(rows)))
        assert np.abs(share * number * 3 - 1).max() < 5 * math.sqrt(3 * number / len(rows))


@pytest.mark.parametrize("class_balance", [False, True])
def test_the_same_plan_everywhere(tail, monkeypatch, class_balance):
    plans = [plan_of(tail, class_balance=class_balance)[1].plan(4)]
    parts = []
    for rank in range(4):
        _, batches = plan_of(tail, monkeypatch, rank, 4, class_balance=class_balance)
        plans.append(batches.plan(4))
        parts.append([distributed.own_slice(batch) for batch in batches.plan(4)])
        assert torch.equal(torch.cat([batch.rows for batch in batches.shuffled(4)]), torch.cat(parts[-1]))
    assert all(torch.equal(plan, plans[0]) for plan in plans)
    joined = torch.stack([torch.cat(step) for step in zip(*parts, strict=True)])
    assert torch.equal(joined, plans[0])
    assert not torch.equal(plan_of(tail, class_balance=class_balance)[1].plan(5), plans[0])
    assert not torch.equal(plan_of(tail, class_balance=class_balance, seed=2)[1].plan(4), plans[0])


# --- names of .npz files ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def npz(ntu120, tmp_path_factory) -> str:
    """CTR-GCN's arrays of the store, under their own name."""
    path = tmp_path_factory.mktemp("npz") / "NTU120_CSub.npz"
    write_arrays(path, SkeletonStore(Feeder(ntu120, protocol="ntu120_xsub").store.path), "ntu120_xsub")
    return str(path)


TRAIN = sorted((name for name in NAMES if "P003" not in name), key=lambda name: (name[9:12], name))


def test_arrays_without_names(npz, tmp_path):
    feeder = Feeder(npz)
    assert feeder.ids[:2] == ["train_0", "train_1"]
    assert Feeder(npz, "test").ids[0] == "test_0"
    assert len(feeder.class_names) == 120
    for options in ({"split_path": listed(tmp_path / "l.txt", TRAIN[:3])}, {"val_fraction": 0.5}):
        with pytest.raises(DataError, match=r"does not name its sequences, and .* needs the names"):
            Feeder(npz, **options)


def test_names_from_their_list(npz, ntu120, tmp_path):
    path = listed(tmp_path / "train_id.txt", TRAIN)
    feeder = Feeder(npz, train_id_path=path)
    assert feeder.ids == TRAIN == Feeder(ntu120, protocol="ntu120_xsub").ids
    assert Feeder(npz, "test", train_id_path=path).ids[0] == "test_0"
    kept = listed(tmp_path / "list.txt", TRAIN[5:9])
    assert Feeder_LT_nosample(npz, train_id_path=path, split_path=kept).ids == TRAIN[5:9]


@pytest.mark.parametrize("absent", [None, "absent.txt"])
def test_names_rebuilt_from_all(npz, ntu120, tmp_path, caplog, absent):
    """Names in any order; the published order follows from their numbers."""
    path = listed(tmp_path / "names.txt", np.random.default_rng(0).permutation(NAMES))
    train_id_path = absent and str(tmp_path / absent)
    with caplog.at_level(logging.INFO):
        train, test = (
            Feeder(npz, split, sample_name_path=path, train_id_path=train_id_path) for split in ("train", "test")
        )
    assert train.ids == TRAIN
    assert test.ids == Feeder(ntu120, "test", "ntu120_xsub").ids
    assert ("absent.txt does not exist; the order is rebuilt from" in caplog.text) == (absent is not None)
    held = Feeder(npz, "val", sample_name_path=path, val_subjects=[2])
    assert {name[8:12] for name in held.ids} == {"P002"}


def test_lists_that_contradict_the_labels(npz, tmp_path):
    shuffled = [TRAIN[1], TRAIN[0], *TRAIN[2:]]
    with pytest.raises(DataError) as error:
        Feeder(npz, train_id_path=listed(tmp_path / "a.txt", shuffled))
    assert f"2 training labels contradict the names: {TRAIN[1]} at 0 has label 0, " in str(error.value)
    with pytest.raises(DataError, match=r"has 72 training sequences, the list 71; is it the list of another split, or"):
        Feeder(npz, train_id_path=listed(tmp_path / "b.txt", TRAIN[:-1]))
    with pytest.raises(DataError, match=r"has 72 training sequences, the list 73; .* sequences with missing skeletons"):
        Feeder(npz, sample_name_path=listed(tmp_path / "c.txt", [*NAMES, "S003C001P001R001A001"]))
    with pytest.raises(DataError, match="has 36 test sequences, the list 37"):
        Feeder(npz, sample_name_path=listed(tmp_path / "d.txt", [*NAMES, "S003C001P003R001A001"]))
    with pytest.raises(DataError, match=r"e.txt: 1 names are not SsssCcccPpppRrrrAaaa: somebody"):
        Feeder(npz, sample_name_path=listed(tmp_path / "e.txt", [*NAMES, "somebody"]))
    with pytest.raises(DataError, match=r"f.txt: 1 names are not SsssCcccPpppRrrrAaaa: somebody"):
        Feeder(npz, train_id_path=listed(tmp_path / "f.txt", [*TRAIN[1:], "somebody"]))
    with pytest.raises(DataError, match=r"absent\.txt does not exist; set sample_name_path to rebuild it"):
        Feeder(npz, train_id_path=str(tmp_path / "absent.txt"))
    with pytest.raises(DataError, match=r"none\.txt cannot be read"):
        Feeder(npz, sample_name_path=str(tmp_path / "none.txt"))


def test_protocol_of_a_file_with_another_name(npz, tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(Path(npz).read_bytes())
    names = listed(tmp_path / "names.txt", NAMES)
    with pytest.raises(DataError, match="sample_name_path needs protocol, one of ntu60_xsub"):
        Feeder(str(path), sample_name_path=names)
    assert Feeder(str(path), protocol="ntu120_xsub", sample_name_path=names).ids == TRAIN
    with pytest.raises(DataError, match="training"):
        Feeder(str(path), protocol="ntu120_xset", sample_name_path=names)


# --- validation split ------------------------------------------------------------------------------------------------


def test_val_subjects(ntu120, tmp_path):
    everything = Feeder(ntu120, "train", "ntu120_xset")
    held, rest = (Feeder(ntu120, split, "ntu120_xset", val_subjects=[2]) for split in ("val", "train"))
    assert not set(held.ids) & set(rest.ids)
    assert set(held.ids) | set(rest.ids) == set(everything.ids)
    assert {name[8:12] for name in held.ids} == {"P002"}
    assert not held.training
    assert len(Feeder(ntu120, "test", "ntu120_xset", val_subjects=[2])) == 54, "the test set is whole"
    assert torch.equal(
        held.batch(np.arange(3)), Feeder(ntu120, "val", "ntu120_xset", val_subjects=[2]).batch([0, 1, 2])
    )
    path = listed(tmp_path / "list.txt", [name for name in everything.ids if name.endswith("A001")])
    held, rest = (
        Feeder_LT_nosample(ntu120, s, "ntu120_xset", split_path=path, val_subjects=[2]) for s in ("val", "train")
    )
    assert len(held) == 18, "all of that subject's, whatever the list"
    assert all(name.endswith("A001") and "P002" not in name for name in rest.ids)
    assert len(rest) == 12


def test_val_fraction(ntu120):
    held, rest, again = (Feeder(ntu120, split, "ntu120_xset", val_fraction=0.4) for split in ("val", "train", "val"))
    assert held.ids == again.ids
    assert not set(held.ids) & set(rest.ids)
    assert len(held) + len(rest) == 54
    assert len({name[8:12] for name in held.ids}) == 1
    assert len({name[8:12] for name in rest.ids}) == 2


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"split": "val"}, "split: val needs val_subjects or val_fraction in feeder_args, for every split"),
        ({"val_subjects": [2], "val_fraction": 0.5}, "give val_subjects or val_fraction, not both"),
        ({"val_subjects": [3, 7]}, r"val_subjects \[3, 7\] are no training subjects; there are \[1, 2\]"),
        ({"val_subjects": [1, 2]}, "all 2 training subjects would be held out for validation"),
        ({"val_fraction": 0.9}, "all 2 training subjects would be held out for validation"),
        ({"val_fraction": 1}, "val_fraction must be a share in 0 .. 1, got 1"),
        ({"val_fraction": -0.1}, "val_fraction must be a share in 0 .. 1, got -0.1"),
        ({"val_fraction": math.nan}, "val_fraction must be a share in 0 .. 1, got nan"),
    ],
)
def test_bad_validation_splits(ntu120, options, wanted):
    with pytest.raises(DataError, match=wanted):
        Feeder(ntu120, protocol="ntu120_xsub", **options)


def test_ucla_validation_split(tmp_path):
    """By subject, disjoint, deterministic; the long tail is cut from what remains."""
    frames = {"skeletons": np.ones((3, 20, 3)).tolist()}
    actions = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
    more = {f"a{a:02d}_s{s:02d}_e00_v{v:02d}": frames for a in actions for s in (2, 3, 4) for v in (1, 2, 3)}
    folder = str(write_ucla(tmp_path / "all_sqe", **more))
    everything = UCLA(folder)
    for options, number in (({"val_subjects": [2, 4]}, 2), ({"val_fraction": 0.25}, 1), ({"val_fraction": 0.5}, 2)):
        held, rest, again = (UCLA(folder, split, **options) for split in ("val", "train", "val"))
        assert held.ids == again.ids
        assert not set(held.ids) & set(rest.ids)
        assert set(held.ids) | set(rest.ids) == set(everything.ids)
        assert len({name[4:7] for name in held.ids}) == number
        assert len(held) == number * 20
        assert {name[-3:] for name in held.ids} == {"v01", "v02"}
        assert len(UCLA(folder, "test", **options)) == 40
        cut = UCLA(folder, long_tail={"n_max": 4, "imbalance": 2}, **options)
        assert set(cut.ids) < set(rest.ids)
        assert np.bincount(cut.labels)[[0, -1]].tolist() == [4, 2]
    with pytest.raises(DataError, match=r"val_subjects \[9\] are no training subjects; there are \[1, 2, 3, 4\]"):
        UCLA(folder, val_subjects=[9])
    with pytest.raises(DataError, match="give val_subjects or val_fraction, not both"):
        UCLA(folder, "val", val_subjects=[2], val_fraction=0.5)
    with pytest.raises(DataError, match="no sample in split 'val'"):
        UCLA(folder, "val")
