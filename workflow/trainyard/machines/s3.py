"""A client for the storage that Snakemake's S3 plugin uses, with the same settings from the environment.

Without keys there, boto3 finds its own (~/.aws, an instance's role).
"""

import os
from typing import Any
from urllib.parse import urlparse

RETRIES = 3


def client(retries: int = RETRIES) -> Any:
    """A boto3 client of the environment's storage."""
    # A store that is not Amazon's may not know the checksums that boto3 adds unasked.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    import boto3
    from botocore.config import Config

    def given(name: str) -> str | None:
        return os.environ.get(f"SNAKEMAKE_STORAGE_S3_{name}") or None

    return boto3.client(
        "s3",
        endpoint_url=given("ENDPOINT_URL"),
        region_name=given("REGION") or "us-east-1",
        aws_access_key_id=given("ACCESS_KEY"),
        aws_secret_access_key=given("SECRET_KEY"),
        aws_session_token=given("TOKEN"),
        config=Config(retries={"max_attempts": retries, "mode": "standard"}, connect_timeout=10, read_timeout=60),
    )


def address(url: str) -> tuple[str, str]:
    """Bucket and prefix of s3://bucket/prefix; the prefix ends with "/" or is empty. Raises ValueError."""
    parsed = urlparse(url)
    if parsed.scheme != "s3" or not parsed.netloc:
        raise ValueError(f"{url}: not the address of a bucket; expected s3://bucket/folder")
    path = parsed.path.strip("/")
    return parsed.netloc, f"{path}/" if path else ""


def listing(s3: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    """Key, Size and LastModified of every object below a prefix; nothing where there is no such bucket."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    try:
        return [found for page in pages for found in page.get("Contents", [])]
    except s3.exceptions.NoSuchBucket:
        return []
