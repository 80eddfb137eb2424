"""Every form in which skeletons are read, in the order in which they are asked whether a file is theirs."""

from __future__ import annotations

from . import arrays, bvh, json_poses, matlab, plain_text, tables
from .recording import Form

FORMS: tuple[Form, ...] = (
    *bvh.FORMS, *json_poses.FORMS, *matlab.FORMS, *plain_text.FORMS, arrays.ARRAYS, tables.TABLE,
)  # fmt: skip
