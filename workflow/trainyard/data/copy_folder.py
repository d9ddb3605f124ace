"""Where a local copy is made: a folder beside its outputs that outlives a kill, and the move into place at the end."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard.data.errors import DataError
from trainyard.data.files import replacing
from trainyard.data.sources import MountGone
from trainyard.data.storage import free_bytes, size
from trainyard.data.walk import base_folder
from trainyard.data.work_folder import held

WORK = ".copy"
PACK = re.compile(r"(all|train|validation|test|shard-\d+)\.(safetensors|jsonl)")


def refuse_source_folder(root: Path, output: Path) -> None:
    """Raise DataError where packs would lie among the files that they are made from, and could take the place of one."""
    if output.resolve() == base_folder(root).resolve():
        raise DataError(f"{output}: is the folder of the data themselves; give another --output-dir")


@contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """`output/.copy`, for one process at a time. It stays when the work was only interrupted (a kill, Ctrl+C, a mount that is gone)
    and goes when the block ends well or with any other error. Raises DataError when another process is in it."""
    busy = f"{output}: another copy_to_local.py is writing there; wait for it or give another --output-dir"
    with held(output / WORK, busy) as work:
        try:
            yield work
        except (KeyboardInterrupt, MountGone):
            print(f"stopped; what is packed stays in {work}, and the same command goes on from there", flush=True)
            raise
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)


def put_into_place(work: Path, output: Path, packs: Iterable[str], others: dict[str, str]) -> None:
    """Packs of the work folder into `output`, in place of all earlier packs; then `others`, by name, to where they belong.

    They also stay in the work folder, so that a kill in between costs nothing. Raises OSError.
    """
    packs = list(packs)
    for old in output.iterdir():
        if PACK.fullmatch(old.name) and old.name not in packs:
            old.unlink()
    for name in packs:
        with replacing(output / name, sync=False) as temporary:
            try:
                os.link(work / name, temporary)
            except OSError:  # a file system without links
                os.replace(work / name, temporary)
    for name, target in others.items():
        with replacing(target) as temporary:
            shutil.copyfile(work / name, temporary)


def check_room(output: Path, each: float, packed: int, sizes: Counter[str]) -> None:
    """Raise DataError when the disk would not hold the packs; `each`: bytes of a sample; `sizes`: samples of each split, of which `packed`
    in all are packed."""
    # A pack is joined from a file a field: the largest one needs its place twice for a moment.
    need = each * (sizes.total() - packed + max(sizes.values()))
    free = free_bytes(output)
    if need > free:
        raise DataError(
            f"{output}: the packs need about {size(need)}, {size(free)} are free: "
            f"{size(need - free)} are missing; make room, use subset_size or smaller features"
        )
