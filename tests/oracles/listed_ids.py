"""The ref ids that a list names, without a dataset that they must belong to."""

from pathlib import Path

from stages.data import ref_id_list
from stages.data.annotation_list import ListRow


def read_ref_ids(path: Path) -> set[int]:
    content = ref_id_list._read_list(path)
    is_table = bool(content) and isinstance(content, list) and isinstance(content[0], ListRow)
    return ref_id_list._ref_ids(path, [row.id_text for row in content] if is_table else content)
