"""What test_data_convert runs in processes of its own, to kill them or to let their disk be full."""

import resource
from pathlib import Path

from asma.data import store_writer
from asma.data.convert import convert_to_store, fingerprint

SHARD_CLIPS = 30


def convert(source, out, jobs=1, **options):
    plan = fingerprint(Path(__file__), source, out, {"dtype": "float32"})
    return convert_to_store(source, out, plan, jobs=jobs, **options)


def convert_with_small_shards(source, out, jobs=1):
    store_writer.SHARD_CLIPS = SHARD_CLIPS
    convert(source, out, jobs)


def convert_on_a_full_disk(source, out, most, said):
    """No file may become larger than so many bytes."""
    store_writer.SHARD_CLIPS = SHARD_CLIPS
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        convert(source, out)
    except OSError as error:
        said.send(str(error))
