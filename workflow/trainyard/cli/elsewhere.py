"""How far trainings on other machines are, where their files go to a bucket: what their mirrors have brought there."""

import json
from collections.abc import Callable
from typing import Any

from snakemake_logger_plugin_trainyard.heartbeat import Heartbeat

from trainyard.machines.checkpoints import PROGRESS
from trainyard.machines.s3 import address, client


def stored_heartbeats(checkpoints: str, say: Callable[[str], Any]) -> list[Heartbeat]:
    """Of every run below s3://bucket/…/checkpoints, with the store's times. A store that cannot be asked is a line, and none."""
    from botocore.exceptions import BotoCoreError, ClientError

    found = []
    try:
        bucket, prefix = address(checkpoints)
        s3 = client(retries=1)
        for suite in _folders(s3, bucket, prefix):
            for run in _folders(s3, bucket, suite):
                try:
                    reply = s3.get_object(Bucket=bucket, Key=run + PROGRESS)
                    names = run.removeprefix(prefix).split("/")
                    found.append(Heartbeat(names[0], names[1], json.loads(reply["Body"].read()), reply["LastModified"].timestamp()))
                except s3.exceptions.NoSuchKey:
                    continue
    except (BotoCoreError, ClientError, OSError, ValueError) as error:
        say(f"note: how far trainings on other machines are cannot be asked of {checkpoints} ({' '.join(str(error).split())[:200]})")
    return found


def _folders(s3: Any, bucket: str, prefix: str) -> list[str]:
    """The prefixes one level below, each with its slash."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return [found["Prefix"] for page in pages for found in page.get("CommonPrefixes", [])]
