"""Pasted bodies: against the same done joint by joint, and against what must stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shapmix import LAYOUTS, SkeletonLayout
from shapmix.bodies import Paste, bone_lengths, facing, graft, paths_to_centre, present, scale_of, sides
from shapmix.draws import generator
from shapmix.mixing import MixDraws, pasted_share

LAYOUT = LAYOUTS["ucla20"]


def clip(seed: int, channels: int = 3, layout: SkeletonLayout = LAYOUT) -> Tensor:
    """(N, C, T, V, M) = (2, channels, 6, V, 2), float64."""
    size = 2, channels, 6, layout.num_joints, 2
    return torch.randn(size, generator=generator(seed, "clip"), dtype=torch.float64)


def grafted(x: Tensor, source: Tensor, joints: list[int], dims: int = 3, layout: SkeletonLayout = LAYOUT) -> Tensor:
    parents = torch.tensor(layout.parents())
    scale = scale_of(bone_lengths(x, parents, dims), bone_lengths(source, parents, dims), dims)
    chosen = torch.zeros(layout.num_joints, dtype=torch.bool)
    chosen[joints] = True
    return graft(x, source, chosen[:, None], scale, parents, paths_to_centre(layout), dims)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_paths_lead_to_the_centre(layout):
    nearer = layout.parents()
    for joint, row in enumerate(paths_to_centre(layout)):
        way = [joint]
        while way[-1] != layout.center:
            way.append(nearer[way[-1]])
        assert row.nonzero().flatten().tolist() == sorted(way)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_graft_against_placing_joint_by_joint(layout):
    """3D: every bone of the result has the direction of whoever gives it, and the own mean length."""
    x, source = clip(1, layout=layout), clip(2, layout=layout)
    joints = list(layout.parts.values())[1]
    found = grafted(x, source, list(joints), layout=layout)
    nearer = layout.parents()
    wanted = x.clone()
    for joint in sorted(range(layout.num_joints), key=lambda joint: int(paths_to_centre(layout)[joint].sum())):
        if joint == layout.center:
            continue
        giver = source if joint in joints else x
        bone = giver[:, :, :, joint] - giver[:, :, :, nearer[joint]]  # (N, C, T, M)
        if joint in joints:
            own = (x[:, :, :, joint] - x[:, :, :, nearer[joint]]).norm(dim=1).mean(1)
            bone = bone * (own / bone.norm(dim=1).mean(1))[:, None, None]
        wanted[:, :, :, joint] = wanted[:, :, :, nearer[joint]] + bone
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(bone_lengths(found, torch.tensor(nearer), 3), bone_lengths(x, torch.tensor(nearer), 3))


def test_nothing_and_everything():
    x, source = clip(1), clip(2)
    torch.testing.assert_close(grafted(x, source, []), x)
    whole = grafted(x, x * 1.7, list(range(20)))  # a taller copy: own size, the copy's place
    torch.testing.assert_close(whole - whole[:, :, :, [LAYOUT.center]], x - x[:, :, :, [LAYOUT.center]])
    torch.testing.assert_close(whole[:, :, :, LAYOUT.center], 1.7 * x[:, :, :, LAYOUT.center])


def test_the_trunk_gives_the_place_of_the_body():
    x, source = clip(1), clip(2)
    centre = LAYOUT.center
    torch.testing.assert_close(
        grafted(x, source, list(LAYOUT.parts["trunk"]))[:, :, :, centre], source[:, :, :, centre]
    )
    torch.testing.assert_close(grafted(x, source, list(LAYOUT.parts["left_leg"]))[:, :, :, centre], x[:, :, :, centre])


def test_two_dimensions_have_one_scale_and_scores_are_taken_joint_by_joint():
    layout = LAYOUTS["coco17"]
    x, parents = clip(1, layout=layout), torch.tensor(layout.parents())
    source = torch.cat([3 * x[:, :2], 5 + x[:, 2:]], dim=1)
    arm = list(layout.parts["left_arm"])
    scale = scale_of(bone_lengths(x, parents, 2), bone_lengths(source, parents, 2), 2)
    torch.testing.assert_close(scale, torch.full((2, 1, 1, 1, 2), 1 / 3, dtype=torch.float64))
    found = grafted(x, source, arm, dims=2, layout=layout)
    torch.testing.assert_close(found[:, :2], x[:, :2])
    rest = [joint for joint in range(17) if joint not in arm]
    assert torch.equal(found[:, 2, :, arm], source[:, 2, :, arm])
    assert torch.equal(found[:, 2, :, rest], x[:, 2, :, rest])


def test_who_is_absent_has_no_length_and_no_factor():
    x, source = clip(1), clip(2)
    source[:, :, :, :, 1] = 0
    x[0, :, 4:] = 0
    assert present(source).tolist() == [[[True, False]] * 6] * 2
    lengths = bone_lengths(source, torch.tensor(LAYOUT.parents()), 3)
    assert not lengths[:, :, 1].any()
    own = bone_lengths(x, torch.tensor(LAYOUT.parents()), 3)
    torch.testing.assert_close(own[0], bone_lengths(x[:1, :, :4], torch.tensor(LAYOUT.parents()), 3)[0])
    assert torch.equal(scale_of(own, lengths, 3)[..., 1], torch.ones(2, 1, 1, 20, dtype=torch.float64))


@pytest.mark.parametrize("frames", [32, 52, 100])
@pytest.mark.parametrize("layout", [LAYOUTS["penn13"], LAYOUT], ids=["penn13", "ucla20"])
def test_the_share_where_all_are_there_is_the_published_one_bit_for_bit(layout, frames):
    x = torch.ones(layout.num_joints + 1, 3, frames, layout.num_joints, 1)
    joints = torch.ones(len(x), layout.num_joints).tril(-1).bool()  # 0 .. V pasted joints
    paste = Paste(layout, body="bones")
    for length in range(4, frames + 1, 4):
        draws = MixDraws(0, "paste", 0.0, 0, length, 0, frames, torch.ones(1), torch.ones(1))
        assert torch.equal(paste(x, x, joints, draws)[1], pasted_share(x, joints, draws))


def test_the_partner_faces_as_the_sample_does():
    x, partner = clip(1), clip(2)
    paste = Paste(LAYOUT, same_facing=True)
    turned = paste.faced(x, partner)
    assert sides(LAYOUT) == (LAYOUT.joint("left_shoulder"), LAYOUT.joint("right_shoulder"))
    torch.testing.assert_close(facing(turned, sides(LAYOUT)), facing(x, sides(LAYOUT)))
    torch.testing.assert_close(turned[:, 1], partner[:, 1])
    torch.testing.assert_close(turned.norm(dim=1), partner.norm(dim=1))
    assert Paste(LAYOUT).faced(x, partner) is partner
    blank = SkeletonLayout("blank", ("a", "b", "c"), ((0, 1), (2, 1)), {"one": (0, 1), "two": (2,)})
    with pytest.raises(ValueError, match="no joints left_shoulder"):
        Paste(blank, same_facing=True)
    with pytest.raises(ValueError, match="in 3D; set auto"):
        Paste(LAYOUT, dims=2, same_facing=True)
    assert torch.equal(Paste(LAYOUT, same_facing="auto").faced(x, partner), turned)
    for layout, dims in ((LAYOUT, 2), (blank, 3)):
        assert Paste(layout, dims=dims, same_facing="auto").faced(x, partner) is partner
    with pytest.raises(ValueError, match="same_facing is True or False or auto"):
        Paste(LAYOUT, same_facing="on")


@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_body_is_turned_about_its_vertical_axis(up):
    x, partner = clip(1), clip(2)
    turned = Paste(LAYOUT, same_facing=True, up=up).faced(x, partner)
    torch.testing.assert_close(facing(turned, sides(LAYOUT), up), facing(x, sides(LAYOUT), up))
    assert torch.equal(turned[:, up], partner[:, up])
    torch.testing.assert_close(turned.norm(dim=1), partner.norm(dim=1))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_line_to_face_by(layout):
    """Every body has shoulders or hips; a hand has not."""
    if layout.name == "hand21":
        with pytest.raises(ValueError, match="'hand21' has no joints left_shoulder"):
            sides(layout)
    else:
        left, right = sides(layout)
        assert layout.mirrored()[left] == right
