#!/usr/bin/env python
"""Bring results, logs and benchmarks home from the storage that a run on other machines left them in. Packs stay there.

Only what is new is loaded. Keys are those of Snakemake's S3 plugin (SNAKEMAKE_STORAGE_S3_ENDPOINT_URL, …_ACCESS_KEY, …_SECRET_KEY), or
what boto3 finds.

Example:
  fetch_results.py --store s3://my-bucket/music --output results/fetched.json
"""

import argparse
from pathlib import Path

from trainyard.command import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="s3://bucket/folder, as in --default-storage-prefix")
    parser.add_argument("--home", type=Path, default=Path(), help="folder of the project (default: this one)")
    parser.add_argument("--output", required=True, type=Path, help="JSON: how much there was")
    args = parser.parse_args()

    from botocore.exceptions import BotoCoreError, ClientError
    from trainyard.data.files import write_json
    from trainyard.machines.fetch import fetch_results

    try:
        fetched = fetch_results(args.store, args.home)
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"{args.store}: {error}") from None
    write_json(args.output, fetched)
    print(f"{args.store}: {fetched['objects']} objects, {fetched['new']} of them new here")


if __name__ == "__main__":
    run_command(main)
