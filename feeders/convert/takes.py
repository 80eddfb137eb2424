"""A folder, zip archive or file of somebody's own skeletons -> its takes, with what their names and labels say.

A take is one recorded sequence: a file, or a folder with one file a frame. Its id is its path below the common folder,
without suffix. The label comes from the first of these that there is: a table of labels, a pattern of the names, the
folder.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ..store import DataError
from .label_table import FACTS, read_table
from .prepare import LeftOut, Source, look
from .recording import Form

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLITS |= {"test": "test", "testing": "test"}  # what people call it -> split
PATTERNS = {  # how public sets name their files
    "names like S001C002P003R002A013": re.compile(r"S\d{3}C(?P<view>\d{3})P(?P<subject>\d{3})R\d{3}A(?P<label>\d{3})"),
    "names like a01_s02_e03": re.compile(
        r"[aA](?P<label>\d+)_[sS](?P<subject>\d+)_[eEtTrR]\d+(_[vVcC](?P<view>\d+))?(_[A-Za-z]\w*)?"
    ),
}
FEWEST = 0.9  # share of the names that fit where a pattern is taken without being asked for
TAKEN = "has the same name and was taken; rename one of them"


@dataclass(frozen=True)
class Take:
    """One recorded sequence: its files, in order, the name of their form, and what is known of it without reading.

    ``facts`` are label, subject, view and split, as far as they are known.
    """

    id: str
    sources: tuple[Source, ...]
    form: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Takes:
    """The takes of a set, in natural order of their ids.

    Attributes:
        left_out: kind -> file or take -> reason.
        labelled_by: what the labels come from, for messages; empty where they may be in the files.
    """

    takes: list[Take]
    left_out: LeftOut
    labelled_by: str


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts a2 before a10; no two texts have the same."""
    parts = [part for part in re.split(r"(\d+)", text) if part]
    return [*((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts), (-1, 0, text)]


def find_takes(
    place: Path,
    forms: Sequence[Form],
    labels: Path | None = None,
    pattern: str | None = None,
    labelled: bool = True,
    skip: Collection[Path] = (),
) -> Takes:
    """The takes of a folder, zip archive or file.

    Args:
        forms: that are known; other files are left out.
        labels: a table of ids and labels; by default ``labels.csv`` in the folder.
        pattern: of names, such as ``a{label}_s{subject}_t{}``, where ``{}`` may be anything.
        labelled: labels are asked for; else what has none is a take too.
        skip: files that are not looked at; where there are no others, there are no takes.

    Raises:
        DataError: nothing there, no file of a known form, a table or pattern that fits no take.
    """
    sources: dict[str, Source] = {}
    twice = {}
    for source in look(place):
        if Path(source.path) in skip:
            continue
        if (first := sources.setdefault(_path(place, source), source)) is not source:
            twice[str(source)] = f"{first} {TAKEN}"
    sources = _without_stores(sources)
    if skip and not sources:
        return Takes([], {}, "")
    tables = [path for path in sources if PurePosixPath(path).name.lower() == "labels.csv"]
    if labels is not None:
        tables = [path for path, source in sources.items() if Path(str(source)).absolute() == labels.absolute()]
    table = min(tables, key=len) if tables else None
    names = sources.pop(table) if table else None
    takes, left_out = _group(place, sources, forms)
    if twice:
        left_out.setdefault("duplicate name", {}).update(twice)
    found = Takes(takes, left_out, "")
    if labelled:
        found = _labelled(place, takes, left_out, names, labels, pattern)
    return replace(found, takes=[_in_one_line(take) for take in _below_common_folder(found.takes)])


def _without_stores(sources: dict[str, Source]) -> dict[str, Source]:
    """The sources without those in stores of ours, whole or unfinished, such as one that is written into the folder."""
    folders = [PurePosixPath(path).parent for path in sources if PurePosixPath(path).name == "frames.npy"]
    stores = {
        folder
        for folder in folders
        for name in ("meta.json", "journal.jsonl")
        if folder.name and f"{folder}/{name}" in sources
    }
    return {path: source for path, source in sources.items() if stores.isdisjoint(PurePosixPath(path).parents)}


def _labelled(
    place: Path, takes: list[Take], left_out: LeftOut, source: Source | None, labels: Path | None, pattern: str | None
) -> Takes:
    """Takes with what a table, a pattern or the folders say."""
    if source is not None or labels is not None:
        where, content = (str(source), source.read()) if source else (str(labels), Path(str(labels)).read_bytes())
        return _by_table(where, content, takes, left_out)
    if pattern is not None:
        return _by_pattern(takes, left_out, _compiled(pattern), f"pattern {pattern}", place)
    for called, known in PATTERNS.items():
        if sum(_match(known, take) is not None for take in takes) >= FEWEST * len(takes):
            return _by_pattern(takes, left_out, known, called, place)
    return _by_folder(takes, left_out)


def _below_common_folder(takes: list[Take]) -> list[Take]:
    """The same takes; their ids begin below the folder that holds them all."""
    folders = [PurePosixPath(take.id).parent for take in takes]
    common = PurePosixPath(os.path.commonpath(folders)) if folders else PurePosixPath()
    return [replace(take, id=str(PurePosixPath(take.id).relative_to(common))) for take in takes]


def _in_one_line(take: Take) -> Take:
    """The same take; its id and facts are as lists of splits need them, see :func:`_line`.

    A split that is called Training or dev is train or val.
    """
    facts = {fact: _line(value) for fact, value in take.facts.items()}
    if "split" in facts:
        facts["split"] = SPLITS.get(facts["split"].lower(), facts["split"])
    return replace(take, id="/".join(map(_line, take.id.split("/"))), facts=facts)


def _line(text: str) -> str:
    """The same text; blanks and line breaks are one blank, bytes of a name that are no UTF-8 are written out."""
    return " ".join(text.encode(errors="backslashreplace").decode().split())


def _path(place: Path, source: Source) -> str:
    """Path of a source below the place, with forward slashes; members of an archive lie in a folder of its name."""
    outer = Path(source.path)
    below = PurePosixPath(outer.relative_to(place).as_posix() if place.is_dir() else outer.name)
    if not source.member:
        return str(below)
    member = source.member.replace("\\", "/").lstrip("/")  # as some programs write them
    return str((below.with_suffix("") if place.is_dir() else PurePosixPath()) / member)


def _group(place: Path, sources: Mapping[str, Source], forms: Sequence[Form]) -> tuple[list[Take], LeftOut]:
    """Files of a known form as takes: one each, or those of a folder where each is a frame."""
    left_out: LeftOut = {}
    folders: dict[tuple[str, str], list[str]] = defaultdict(list)  # (folder, form) -> its files
    known = {form.name: form for form in forms}
    for path in sorted(sources, key=natural):
        form = next((form.name for form in forms if form.recognises(path, sources[path].head())), None)
        if form is None:
            left_out.setdefault("no skeletons", {})[path] = "a file of no known form"
        else:
            folders[str(PurePosixPath(path).parent), form].append(path)
    frames = {key: _are_frames(known[key[1]], [sources[path] for path in paths]) for key, paths in folders.items()}
    named = {key: {_without_number(path) for path in folders[key]} for key in folders if frames[key]}
    by_prefix = any(len(prefixes) > 1 for prefixes in named.values())
    groups: dict[str, tuple[str, list[Source]]] = {}
    for (folder, form), paths in folders.items():
        for path in paths:
            name = str(PurePosixPath(path).with_suffix(""))
            if frames[folder, form]:
                name = _without_number(path) if by_prefix else folder
            of, files = groups.setdefault(name, (form, []))
            if of != form or (files and not frames[folder, form]):
                left_out.setdefault("duplicate name", {})[path] = f"{files[0]} {TAKEN}"
            else:
                files.append(sources[path])
    if not groups:
        what = f"none of {len(sources)} files is of a known form" if sources else "it is empty"
        raise DataError(f"{place} holds no skeletons: {what}. docs/own_data.md lists the forms that are read")
    return [Take(name, tuple(groups[name][1]), groups[name][0]) for name in sorted(groups, key=natural)], left_out


def _are_frames(form: Form, files: Sequence[Source]) -> bool:
    """Is each file of a folder one frame? The first one that can be read says it."""
    for file in files:
        try:
            return form.one_frame(file)
        except Exception:  # a damaged file may raise anything  # nosec B112
            continue
    return False


def _without_number(path: str) -> str:
    """The name of a frame's take: what stands before the last number of the file's name."""
    pure = PurePosixPath(path)
    before = re.sub(r"\d+\D*$", "", pure.name).rstrip("_-. ")
    return str(pure.parent / before) if before else str(pure.parent)


def _by_table(where: str, content: bytes, takes: Sequence[Take], left_out: LeftOut) -> Takes:
    """Labels from a table, whose ids are paths of takes, with or without suffix, or ends of one take's path."""
    rows = read_table(where, content)
    ids = {take.id for take in takes}
    ends = defaultdict(list)
    for take in takes:
        for end in _ends(take.id):
            ends[end].append(take.id)
    facts: dict[str, Mapping[str, str]] = {}
    without_file = {}
    for name, row in rows.items():
        pure = PurePosixPath(name.replace("\\", "/"))
        tried = [str(pure), *([str(pure.with_suffix(""))] if pure.suffix else [])]
        tried += [only[0] for text in tried if len(only := ends.get(text, [])) == 1]
        tried += [end for text in tried for end in _ends(text)]  # a longer path than that of the files
        found = next((text for text in tried if text in ids), None)
        if found is None:
            without_file[name] = f"a label in {where}, but no file"
        elif facts.setdefault(found, row) != row:
            raise DataError(f"{where}: two rows, one of them {name}, are about the take {found}; remove one")
    if not facts:
        raise DataError(
            f"{where}: none of its {len(rows)} ids is a file here; it has {', '.join(list(rows)[:3])}; the files are "
            f"called {', '.join(sorted(ids, key=natural)[:3])}"
        )
    missing = {take.id: f"no label in {where}" for take in takes if take.id not in facts}
    more = {kind: files for kind, files in (("no file", without_file), ("no label", missing)) if files}
    labelled = [replace(take, facts=facts[take.id]) for take in takes if take.id in facts]
    return Takes(labelled, {**left_out, **more}, where)


def _ends(path: str) -> list[str]:
    """a/b/c -> a/b/c, b/c, c."""
    parts = path.split("/")
    return ["/".join(parts[place:]) for place in range(len(parts))]


def _compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern such as ``a{label}_s{subject}_{}``."""
    pieces = re.split(r"\{(\w*)\}", pattern)
    names = pieces[1::2]
    if unknown := [name for name in names if name and name not in FACTS]:
        raise DataError(f"--pattern: {{{unknown[0]}}} is none of {', '.join(FACTS)}; write {{}} for anything else")
    if "label" not in names or len({name for name in names if name}) < sum(map(bool, names)):
        raise DataError(f"--pattern {pattern}: it needs {{label}}, and each name once")
    texts = [re.escape(piece) for piece in pieces[::2]]
    fields = [f"(?P<{name}>.+?)" if name else ".*?" for name in names]
    return re.compile("".join(part for pair in zip(texts, [*fields, ""], strict=True) for part in pair))


def _match(pattern: re.Pattern[str], take: Take) -> re.Match[str] | None:
    """A pattern on the last part of an id, or on the whole where it has a slash."""
    return pattern.fullmatch(take.id if "/" in pattern.pattern else PurePosixPath(take.id).name)


def _by_pattern(takes: Sequence[Take], left_out: LeftOut, pattern: re.Pattern[str], called: str, place: Path) -> Takes:
    found = [(take, _match(pattern, take)) for take in takes]
    fitting = [replace(take, facts=_filled(match.groupdict())) for take, match in found if match]
    if not fitting:
        raise DataError(
            f"{place}: no name fits {called}; the files are called {', '.join(take.id for take in takes[:3])}"
        )
    others = {take.id: f"does not fit {called}" for take, match in found if not match}
    return Takes(fitting, {**left_out, **({"other name": others} if others else {})}, called)


def _filled(facts: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in facts.items() if value}


def _by_folder(takes: Sequence[Take], left_out: LeftOut) -> Takes:
    """The first folder below the common one is the label; folders called train, val or test are the split."""
    parts = {take.id: list(PurePosixPath(take.id).parts[:-1]) for take in takes}
    inside = [folders for folders in parts.values() if folders]
    while inside and len({folders[0] for folders in inside}) == 1 and all(len(folders) > 1 for folders in inside):
        for folders in inside:
            del folders[0]
    if inside and all(folders[0].lower() in SPLITS and len(folders) > 1 for folders in inside):
        splits = {name: SPLITS[folders.pop(0).lower()] for name, folders in parts.items() if folders}
    else:
        splits = {}
    labels = {name: folders[0] for name, folders in parts.items() if folders}
    if len(set(labels.values())) < 2:
        return Takes(list(takes), left_out, "")
    found = []
    without: dict[str, str] = {}
    for take in takes:
        facts = _filled({"label": labels.get(take.id), "split": splits.get(take.id)})
        if facts:
            found.append(replace(take, facts=facts))
        else:
            without[take.id] = "it lies in no folder of a class"
    return Takes(found, {**left_out, **({"no label": without} if without else {})}, "the folders")
