"""Weights under other names: PYSKL's ST-GCN, ST-GCN++ and AAGCN, and older versions of these networks here.

Names of PYSKL's weights, as its checkpoints have them (i from 0 to 9; each is a weight and a bias, or a batch norm):

    [backbone.]data_bn                        of persons (M V C), or one that all share (V C)
    [backbone.]gcn.i.residual.conv, .bn
    [backbone.]gcn.i.gcn.A, .bn, .down.0, .down.1
    ST-GCN    .gcn.PA, .gcn.conv, .tcn.conv, .tcn.bn
    ST-GCN++  .gcn.conv, .tcn.branches.0 to .5, .tcn.transform.0, .2, .tcn.bn
    AAGCN     .gcn.alpha, .conv_a, .conv_b, .conv_d (0 to 2), .conv_sa, .conv_ta, .fc1c, .fc2c, .tcn.conv, .tcn.bn
    cls_head.fc_cls, cls_head.fc

The names alone do not say how a weight is used: ST-GCN's are taken for those of its default,
in which PA is the importance of each edge.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from . import aagcn, stgcn, stgcnpp
from .graph import spatial_adjacency
from .layers import Backbone

Weights = dict[str, Tensor]

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]  # patterns and what takes their place
FOREIGN = re.compile(r"^(backbone|cls_head)\.|^gcn\.\d+\.(gcn|tcn|residual)\.")
OLDER = re.compile(r"\.gcn1\.(edge_importance|adjacency|offset)$")  # only older versions have these names


def _own_block(name: re.Match[str]) -> str:
    return f"l{int(name[1]) + 1}.{name[2]}{'' if name[2] == 'residual' else '1'}."


RECOGNISER: Rules = ((r"^backbone\.", ""), (r"^cls_head\.fc(?:_cls)?\.", "fc."))
BLOCK: Rules = (
    (r"^gcn\.(\d+)\.(gcn|tcn|residual)\.", _own_block),
    (r"gcn1\.down\.0\.", "gcn1.residual.conv."),
    (r"gcn1\.down\.1\.", "gcn1.residual.bn."),
)
# Weights that get one name are joined in the order of their own names.
PYSKL: dict[type[nn.Module], Rules] = {
    stgcn.Model: BLOCK,
    stgcnpp.Model: (
        *BLOCK,
        (r"tcn1\.branches\.(?:[0-4]\.0|5)\.", "tcn1.reduce."),
        (r"tcn1\.branches\.[0-4]\.1\.", "tcn1.bn_reduce."),
        (r"tcn1\.branches\.([0-3])\.3\.conv\.", r"tcn1.branches.\1."),
        (r"tcn1\.transform\.0\.", "tcn1.bn_branches."),
        (r"tcn1\.transform\.2\.", "tcn1.mix."),
    ),
    aagcn.Model: (
        *BLOCK,
        (r"gcn1\.alpha$", "gcn1.gate"),
        (r"gcn1\.conv_[ab]\.[0-2]\.", "gcn1.embed."),
        (r"gcn1\.conv_d\.[0-2]\.weight", "gcn1.conv.weight"),
        (r"gcn1\.conv_d\.[0-2]\.bias", "gcn1.bias"),
        (r"gcn1\.conv_sa\.", "gcn1.attention.joints."),
        (r"gcn1\.conv_ta\.", "gcn1.attention.frames."),
        (r"gcn1\.fc1c\.", "gcn1.attention.squeeze."),
        (r"gcn1\.fc2c\.", "gcn1.attention.excite."),
    ),
}


def own_names(network: nn.Module, weights: Mapping[str, Tensor]) -> tuple[Weights, bool]:
    """The weights of a file under this network's names; a name that is not known stays.

    A first name that all weights have in common and the network does not have, such as ``module.``, is left out.

    Returns:
        the weights, and whether they are another program's: then all of them should fit.

    Raises:
        ValueError: weights of one layer do not fit together, or are of another graph.
    """
    own = network.state_dict()
    found = _without_common_prefix(dict(weights), own)
    if _any(FOREIGN, found) and not _any(FOREIGN, own):
        return _of_recogniser(network, found, own), True
    if isinstance(network, Backbone) and type(network) in PYSKL and _any(OLDER, found):
        return _of_older_version(network, found), False
    return found, False


def _any(pattern: re.Pattern[str], keys: Iterable[str]) -> bool:
    return any(pattern.search(key) for key in keys)


def _without_common_prefix(weights: Weights, own: Iterable[str]) -> Weights:
    while len(first := {key.partition(".")[0] for key in weights}) == 1 and all("." in key for key in weights):
        prefix = f"{first.pop()}."
        if any(key.startswith(prefix) for key in own):
            break
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _of_recogniser(network: nn.Module, weights: Weights, own: Mapping[str, Tensor]) -> Weights:
    rules, parts = RECOGNISER + PYSKL.get(type(network), ()), defaultdict(list)
    for key in sorted(weights):
        new = key
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        parts[new if new in own else key].append(weights[key])
    found = {key: _joined(key, values) for key, values in parts.items()}
    for key in own.keys() & found.keys():
        if key.startswith("data_bn.") and found[key].numel() > 1 and len(own[key]) % len(found[key]) == 0:
            found[key] = found[key].repeat(len(own[key]) // len(found[key]))  # the same for each person
    return found | {key: torch.zeros_like(value) for key, value in own.items() if key.endswith(".values_bias")}


def _joined(key: str, parts: list[Tensor]) -> Tensor:
    if len(parts) == 1 or parts[0].dim() == 0:  # the parts of a norm have seen the same number of batches
        return parts[0]
    try:
        return torch.stack(parts).sum(0) if key.endswith("gcn1.bias") else torch.cat(parts)
    except RuntimeError as error:
        shapes = [tuple(part.shape) for part in parts]
        raise ValueError(f"{key} would be joined from weights that do not fit together: {shapes}") from error


def _of_older_version(network: Backbone, weights: Weights) -> Weights:
    """Older versions had [target, source] in their matrices, target before source in AAGCN's embedding, its bias
    before the sum over joints, and the skeleton's adjacency only in the code. The network computes what they did."""
    skeleton = torch.from_numpy(spatial_adjacency(network.layout)).float()
    found: Weights = {}
    for key, value in weights.items():
        layer, _, name = key.rpartition(".")
        if OLDER.search(key) and value.shape != skeleton.shape:
            raise ValueError(f"{key} is {tuple(value.shape)}, the graph here {tuple(skeleton.shape)}")
        if name == "edge_importance":
            found |= {f"{layer}.A": skeleton.mT, f"{layer}.PA": value.mT}
        elif name == "adjacency":
            found[f"{layer}.A"] = value.mT
        elif name == "offset":
            found[f"{layer}.A"] = (skeleton + value).mT
        elif layer.endswith("gcn1.embed"):
            found[key] = torch.cat(value.chunk(2)[::-1])
        elif key.endswith("gcn1.conv.bias") and isinstance(network, aagcn.Model):
            graph_conv = layer.removesuffix(".conv")
            found[f"{graph_conv}.values_bias"] = value
            found[f"{graph_conv}.bias"] = torch.zeros_like(value.chunk(len(skeleton))[0])
        else:
            found[key] = value
    return found
