"""Raw NTU files: each rule of the preparation in closed form, and damaged files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeders.convert import ntu_raw
from feeders.convert.ntu_raw import (
    Body,
    Unusable,
    choose_sources,
    denoise,
    parse,
    read_sequence,
    read_source,
    two_actors,
)
from feeders.convert.prepare import Source
from tests.conftest import ntu_names
from tools.faults.made_up import skeleton_text, write_ntu_raw

CENTRE = 1  # spine_mid
GONE = np.nan


def person(length, height=1.6, width=0.0, motion=0.0, start=0, frames=None):
    """(frames, 25, 3): a body of this height and width, z moves by +-motion; seen for ``length`` from ``start``."""
    joints = np.full((frames or start + length, 25, 3), GONE)
    joints[start : start + length, :, 0] = np.linspace(-0.5, 0.5, 25) * width
    joints[start : start + length, :, 1] = np.linspace(-0.5, 0.5, 25) * height
    joints[start : start + length, :, 2] = 3 + motion * np.resize([1, -1], length)[:, None]
    return joints


def together(*people):
    """(L, B, 25, 3) of several people."""
    length = max(map(len, people))
    padded = [np.concatenate([joints, np.full((length - len(joints), 25, 3), GONE)]) for joints in people]
    return np.stack(padded, axis=1)


def prepared(*people, **options):
    """The preparation of a file of these people."""
    return read_sequence(skeleton_text(together(*people), **options).encode())


def heights(frames):
    """(L, M): height of each actor in each frame, another one for each body; 0: no body."""
    return np.ptp(frames[..., 1].astype(float), axis=2).round(3)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_body(end):
    rng = np.random.default_rng(0)
    joints = rng.integers(-100, 100, size=(5, 1, 25, 3)) / 64  # exact as text
    frames, actors = read_sequence(skeleton_text(joints, end=end).encode())
    assert (frames.shape, frames.dtype, actors) == ((5, 2, 25, 3), np.float32, 1)
    np.testing.assert_array_equal(frames[:, 0], joints[:, 0] - joints[0, 0, CENTRE])
    assert not frames[:, 1].any()


def test_text_around_the_lines_does_not_matter():
    text = skeleton_text(together(person(3)))
    wanted = read_sequence(text.encode())[0]
    for other in (text.rstrip(), f"{text}\n\r\n", text.replace(" ", "  "), text.replace("\n", " \n")):
        np.testing.assert_array_equal(read_sequence(other.encode())[0], wanted)


def test_frames_without_bodies_are_dropped():
    joints = together(person(9, motion=0.25))
    joints[[0, 1, 5]] = GONE
    frames, _ = read_sequence(skeleton_text(joints).encode())
    assert len(frames) == 6
    z = 3 + np.array([0.25, -0.25, 0.25, 0.25, -0.25, 0.25])
    np.testing.assert_allclose(frames[:, 0, 0, 2], z - z[0], atol=1e-6)


def test_ids_that_differ_beyond_a_float():
    ids = "72057594037944738", "72057594037944739"
    assert float(ids[0]) == float(ids[1])
    bodies, _ = parse(skeleton_text(together(person(3), person(3, height=1.2)), ids).encode())
    assert len(bodies) == 2


def test_a_bodys_frames_count_as_consecutive():
    joints = together(person(30, motion=0.5), person(30, height=1.2))
    joints[:5, 1] = joints[10:20, 1] = GONE
    bodies, num_frames = parse(skeleton_text(joints).encode())
    assert num_frames == 30
    assert [(body.start, body.end, len(body.joints)) for body in bodies] == [(0, 29, 30), (5, 19, 15)]
    frames, actors = read_sequence(skeleton_text(joints).encode())
    assert actors == 2
    assert np.flatnonzero(heights(frames)[:, 1]).tolist() == list(range(5, 20))


# --- which bodies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "actors"), [(11, 1), (12, 2)])
def test_ghosts_go(length, actors):
    frames, number = prepared(person(30), person(length, height=1.2, motion=0.5))
    assert number == actors
    assert (heights(frames)[0] == ([1.2, 1.6] if actors == 2 else [1.6, 0])).all()


@pytest.mark.parametrize("length", [1, 11])
def test_a_single_short_body_is_kept(length):
    frames, actors = prepared(person(length, width=5))
    assert (len(frames), actors) == (length, 1)


def test_only_ghosts():
    with pytest.raises(Unusable, match="no actor: all bodies are seen in 11 frames or fewer"):
        prepared(person(11), person(3))


def body(start, length, motion=0.0, height=1.6, noisy=0, **options):
    """A body whose first ``noisy`` frames are as wide as they are high."""
    joints = person(length, height, motion=motion, **options)
    joints[:noisy, :, 0] = joints[:noisy, :, 1]
    joints = joints.astype(np.float32)
    return Body(start, joints, float(joints.reshape(-1, 3).var(axis=0).sum()))


@pytest.mark.parametrize(("noisy", "length", "goes"), [(113, 162, False), (143, 205, True), (162, 162, True)])
def test_wide_bodies_go(noisy, length, goes):
    """113 / 162 and 143 / 205 lie next to 0.69754, below and above."""
    kept = denoise([body(0, length, noisy=noisy), body(0, length, motion=0.1)])
    assert len(kept) == 2 - goes


@pytest.mark.parametrize(("width", "goes"), [(1.27, False), (1.29, True)])
def test_what_is_wide(width, goes):
    wide = person(20, height=1.6, width=width).astype(np.float32)
    assert len(denoise([Body(0, wide, 1.0), body(0, 20)])) == 2 - goes


def test_the_last_body_stays():
    """Bodies are checked in turn until one is left: of three wide ones the third remains."""
    wide = [body(0, 20 + number, noisy=20 + number) for number in range(3)]
    assert denoise(wide) == wide[2:]
    assert denoise([wide[0], body(0, 5, noisy=5)]) == wide[:1], "ghosts are removed first"


def test_motion_of_clean_frames_decides():
    """The first moves most, but only in its wide frames; without them the second moves more."""
    first, second = person(20), person(20, height=1.2, motion=0.5)
    first[:5, :, 0] = np.linspace(-4, 4, 25)
    frames, _ = prepared(first, second)
    assert heights(frames)[10].tolist() == [1.2, 1.6]
    first[:5, :, 0] = 4  # as much motion, but not wide
    frames, _ = prepared(first, second)
    assert heights(frames)[10].tolist() == [1.6, 1.2]


def test_motion_never_grows():
    """Frames without noise do not count more where they move more than all frames together."""
    jumps = body(0, 20, noisy=0, motion=1.0)
    jumps.joints[:8, :, 2] = 3  # still and wide: the other frames have a larger variance than all
    jumps.joints[:8, :, 0] = jumps.joints[:8, :, 1]
    jumps.motion = 0.5
    steady = Body(0, person(20).astype(np.float32), 0.6)
    assert denoise([jumps, steady]) == [steady, jumps]


def test_motion_is_the_summed_variance():
    text = skeleton_text(together(person(4, height=0, motion=0.5))).encode()
    assert parse(text)[0][0].motion == pytest.approx(0.25)
    joints = np.zeros((2, 1, 25, 3))
    joints[1] = [1, 2, 4]
    assert parse(skeleton_text(joints).encode())[0][0].motion == pytest.approx((1 + 4 + 16) / 4)


def test_equal_motion_keeps_the_order():
    bodies = [body(0, 20, height=1.6), body(0, 20, height=1.6)]
    assert denoise(bodies) == bodies


# --- which actor -----------------------------------------------------------------------------------------------------


def actors_of(*intervals, num_frames=60):
    """(L, 2): which body each actor is in each frame; bodies are numbered from 1, largest motion first."""
    bodies = [
        Body(start, np.full((end - start + 1, 25, 3), number, np.float32), 0.0)
        for number, (start, end) in enumerate(intervals, 1)
    ]
    joints = two_actors(bodies, num_frames)
    assert (joints == joints[:, :, :1, :1]).all()
    return joints[:, :, 0, 0].astype(int)


def runs(column):
    """[(value, first, last), ...] of the runs of a column."""
    edges = [0, *(np.flatnonzero(np.diff(column)) + 1), len(column)]
    return [(int(column[start]), int(start), int(end) - 1) for start, end in pairwise(edges)]


def test_a_body_joins_actor_1_where_it_follows():
    who = actors_of((0, 19), (20, 59))
    assert runs(who[:, 0]) == [(1, 0, 19), (2, 20, 59)]
    assert not who[:, 1].any()


def test_one_common_frame_is_no_overlap():
    who = actors_of((0, 20), (20, 59))
    assert runs(who[:, 0]) == [(1, 0, 19), (2, 20, 59)], "overlap 0; the later body takes the frame"
    who = actors_of((0, 21), (20, 59))
    assert runs(who[:, 0]) == [(1, 0, 21), (0, 22, 59)], "overlap 1"
    assert runs(who[:, 1]) == [(0, 0, 19), (2, 20, 59)]


def test_intervals_grow_to_their_hull():
    who = actors_of((30, 39), (0, 9), (15, 25))
    assert runs(who[:, 0]) == [(2, 0, 9), (0, 10, 29), (1, 30, 39), (0, 40, 59)]
    assert runs(who[:, 1]) == [(0, 0, 14), (3, 15, 25), (0, 26, 59)], "it lies within actor 1's interval"


def test_actor_2_begins_at_frame_0():
    """Its interval starts as [0, 0]: after a body at 40..59 it is 0..59, and a body at 5..20 is dropped."""
    who = actors_of((0, 59), (40, 59), (5, 20))
    assert runs(who[:, 1]) == [(0, 0, 39), (2, 40, 59)]
    who = actors_of((0, 59), (0, 20), (20, 59))
    assert runs(who[:, 1]) == [(2, 0, 19), (3, 20, 59)]


def test_several_that_make_one_actor_count_as_two():
    """As published: two bodies one after the other are actor 1; actor 2 exists, but is 0."""
    frames, actors = prepared(person(20), person(20, height=1.2, start=20))
    assert actors == 2
    assert not frames[:, 1].any()
    assert heights(frames)[[0, 39], 0].tolist() == pytest.approx([1.6, 1.2])


# --- frames that sum to 0, translation -------------------------------------------------------------------------------


def test_zero_frames_stay_in_a_file_of_one_body():
    joints = together(person(15))
    joints[[0, 7]] = 0
    frames, _ = read_sequence(skeleton_text(joints).encode())
    assert len(frames) == 15
    np.testing.assert_allclose(frames[7, 0], np.tile(-joints[1, 0, CENTRE], (25, 1)), atol=1e-6)
    np.testing.assert_allclose(frames[1, 0, CENTRE], 0, atol=1e-6)


@pytest.mark.parametrize("ghost", [2, 20])
def test_zero_frames_go_where_there_were_several(ghost):
    """Frames that show only the ghost are removed, also where one body remains."""
    alone = together(person(30), person(ghost, height=1.2, start=30))
    alone[7, 0] = 0
    frames, actors = read_sequence(skeleton_text(alone).encode())
    assert actors == (1 if ghost < 12 else 2)
    assert len(frames) == 29 + (0 if ghost < 12 else ghost)
    assert (heights(frames)[:29, 0] == 1.6).all()


def test_coordinates_that_sum_to_zero_count_as_none():
    """A frame is empty where its sum is 0, as published, even if its coordinates are not."""
    joints = together(person(20), person(3, height=1.2))
    joints[9, 0] = np.arange(-12, 13)[:, None]
    frames, _ = read_sequence(skeleton_text(joints).encode())
    assert len(frames) == 19


def test_translation_of_two():
    """Actor 1's first frame is the origin of both; an absent actor stays 0."""
    first = person(30, motion=0.5, start=10, frames=40) + np.array([1, 2, 0])
    second = person(25, height=1.2, frames=40) - np.array([1, 0, 0])
    frames, actors = prepared(first, second)
    assert (len(frames), actors) == (40, 2)
    origin = first[10, CENTRE]
    np.testing.assert_allclose(frames[10:, 0], first[10:] - origin, atol=1e-6)
    np.testing.assert_allclose(frames[:25, 1], second[:25] - origin, atol=1e-6)
    assert not frames[:10, 0].any()
    assert not frames[25:, 1].any()


def test_nobody_but_zeros():
    with pytest.raises(Unusable, match="no actor: all coordinates are 0"):
        prepared(person(20) * 0)
    with pytest.raises(Unusable, match="no actor: all coordinates are 0"):
        prepared(person(20) * 0, person(20) * 0)


# --- bad files -------------------------------------------------------------------------------------------------------

LINES = skeleton_text(together(person(3), person(3))).splitlines()
FRAME = 1 + 2 * 27  # lines of each of the three frames; a body has 2 lines and 25 joints


def changed(**lines):
    """The file with some lines replaced (line7="...") or removed (None)."""
    new = {int(key.removeprefix("line")) - 1: line for key, line in lines.items()}
    return "\n".join(line for number, line in ((n, new.get(n, old)) for n, old in enumerate(LINES)) if line is not None)


BAD = {
    "empty": ("", "empty: 0 bytes"),
    "blank": ("\n \n", "empty: "),
    "no frames": ("0\n", "no body: in none of its frames"),
    "no body": ("2\n0\n0\n", "no body: in none of its frames"),
    "wrong joint count": (changed(line4="20"), "damaged: line 4: 20 joints, wanted 25"),
    "two columns less": (changed(line6="1 2 3 4 5 6 7 8 9 10"), "line 6: expected a joint of frame 0 (12 columns)"),
    "a space instead of a column": (changed(line6="1 2 3 4 5 6 7 8 9 10 11 "), "found 11 columns"),
    "a column more": (changed(line6=LINES[5] + " 0"), "found 13 columns"),
    "body with 9 columns": (changed(line3="1 0 1 1 0 0 0 0 0"), "line 3: expected a body of frame 0 (10 columns"),
    "count too high": (changed(line2="3"), "line 57: expected a body of frame 0 (10 columns, 3 bodies announced)"),
    "count too low": (changed(line2="1"), "line 30: expected the number of bodies of frame 1, found 10 columns"),
    "last count too high": (changed(line112="3"), "cut off after line 166, where a body of frame 2"),
    "last count too low": (changed(line112="1"), "line 140: text after the last of 3 frames"),
    "fewer frames than announced": (changed(line1="4"), "after line 166, where the number of bodies of frame 3"),
    "more frames than announced": (changed(line1="2"), "line 112: text after the last of 2 frames: '2'"),
    "text after the end": ("\n".join([*LINES, "", "and more"]), "line 167: text after the last of 3 frames"),
    "cut in the middle": ("\n".join(LINES[:70]), "cut off after line 70, where a joint of frame 1"),
    "cut in a line": ("\n".join(LINES)[:-30], "line 166: expected a joint of frame 2 (12 columns), found"),
    "joint missing": (changed(line6=None), "line 29: expected a joint of frame 0 (12 columns), found 10 columns"),
    "blank line": (changed(line3=""), "line 3: expected a body of frame 0"),
    "body twice": (changed(line30=LINES[2]), "line 30: body '72057594037927931' is twice in frame 0"),
    "NaN": (changed(line8="0 nan 0 0 0 0 0 0 0 0 0 0"), "line 8: x y z are not finite numbers: '0 nan 0"),
    "infinite": (changed(line35="0 0 -inf 0 0 0 0 0 0 0 0 0"), "line 35: x y z are not finite numbers: '0 0 -inf"),
    "too large": (changed(line35="0 0 1e60 0 0 0 0 0 0 0 0 0"), "line 35: x y z are not finite numbers: '0 0 1e60"),
    "no number": (changed(line66="0 x 0 0 0 0 0 0 0 0 0 0"), "line 66: x y z are not finite numbers: '0 x 0"),
    "frames are no number": (changed(line1="many"), "line 1: expected the number of frames, found 'many'"),
    "a negative count": (changed(line2="-1"), "line 2: expected the number of bodies of frame 0, found '-1'"),
    "a count of 5000 digits": (changed(line1="9" * 5000), "line 1: expected the number of frames, found '9999"),
    "another kind of text": ("a,b,c\n1,2,3\n", "line 1: expected the number of frames, found 'a,b,c'"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", BAD)
def test_bad_file(kind, tmp_path):
    text, wanted = BAD[kind]
    for end in ("\n", "\r\n"):
        path = tmp_path / "S001C002P003R001A004.skeleton"
        path.write_text(text, newline=end)
        sample = read_source(Source(str(path), ""))
        assert wanted in sample.problem
        assert sample.problem.partition(": ")[0] in ("empty", "no body", "damaged")
        assert len(sample.frames) == 0
        assert (sample.id, sample.label) == ("S001C002P003R001A004", 3)
        assert sample.columns == {"setup": 1, "camera": 2, "subject": 3, "replication": 1, "action": 4, "actors": 0}


def test_columns_that_are_not_used_may_be_anything():
    """Real files have NaN among the orientations."""
    text = skeleton_text(together(person(3))).replace("260.7 209.9 973.7", "-1.#IND nan x")
    assert len(read_sequence(text.encode())[0]) == 3


def test_binary_rubbish(tmp_path):
    rng = np.random.default_rng(0)
    for size in (1, 100, 10_000):
        with pytest.raises(Unusable, match="damaged: line 1: expected the number of frames"):
            read_sequence(b"\x89" + rng.bytes(size))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_cut_is_noticed(data):
    text = skeleton_text(together(person(2))).encode()
    where = data.draw(st.integers(1, len(text.rstrip()) - 1))
    with pytest.raises(Unusable):
        read_sequence(text[:where])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3), st.integers(0, 60)), min_size=1, max_size=4))
def test_damage_gives_a_sequence_or_a_reason(damage):
    """Any bytes replaced, removed or inserted: never another error."""
    text = skeleton_text(together(person(6))).encode()
    for place, new, old_size in damage:
        place %= len(text)
        text = text[:place] + new + text[place + old_size :]
    try:
        frames, actors = read_sequence(text)
    except Unusable:
        return
    assert frames.shape[1:] == (2, 25, 3)
    assert len(frames) > 0
    assert actors in (1, 2)


# --- which files -----------------------------------------------------------------------------------------------------


def sources(*names):
    return [Source(f"raw/{name}.skeleton", "") for name in names]


def test_choice_of_files():
    given = sources(
        "S001C001P001R001A001",
        "S001C001P001R001A060",
        "S001C001P001R001A061",
        "S018C001P001R001A061",
        "S018C001P001R001A121",
        "S001C001P001R001A000",
        "S001C001P001R001A02",
        "._S001C001P001R001A001",
        "S001C001P002R001A001",
    )
    chosen, left_out = choose_sources(given, "ntu60", {"S001C001P002R001A001", "S009C001P002R001A001"})
    assert [source.name for source in chosen] == ["S001C001P001R001A001", "S001C001P001R001A060"]
    assert {kind: sorted(files) for kind, files in left_out.items()} == {
        "not of ntu60": [
            "S001C001P001R001A000",
            "S001C001P001R001A061",
            "S018C001P001R001A061",
            "S018C001P001R001A121",
        ],
        "bad name": ["raw/._S001C001P001R001A001.skeleton", "raw/S001C001P001R001A02.skeleton"],
        "on the missing list": ["S001C001P002R001A001"],
    }
    chosen, left_out = choose_sources(given, "ntu120", set())
    assert len(chosen) == 5
    assert sorted(left_out["not of ntu120"]) == ["S001C001P001R001A000", "S018C001P001R001A121"]


def test_made_up_files_can_be_used(tmp_path):
    """The preparation keeps the files of tests.conftest unchanged."""
    folder = write_ntu_raw(tmp_path / "raw", ntu_names(actions=(1, 50)), lengths=(20, 30))
    for path in sorted(Path(folder).iterdir()):
        sample = read_source(Source(str(path), ""))
        assert sample.problem == ""
        assert 20 <= len(sample.frames) <= 30
        assert sample.columns["actors"] == (2 if sample.label == 49 else 1)
        assert sample.frames.any(axis=(2, 3))[:, : sample.columns["actors"]].all()


def test_constants():
    assert (ntu_raw.MAX_GHOST_FRAMES, ntu_raw.MAX_WIDTH, ntu_raw.MAX_NOISY_SHARE) == (11, 0.8, 0.69754)
