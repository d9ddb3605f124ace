"""An object store on this machine's loopback, as a run has one: rclone from PyPI."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

KEY, SECRET = "testaccesskey", "topsecretvalue4711"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Store:
    """Objects of bucket `bucket` are plain files in `folder`/bucket."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.bucket = folder / "bucket"
        self.bucket.mkdir(parents=True)
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": self.url,
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": KEY,
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": SECRET,
        }
        self.start()

    def start(self) -> None:
        rclone = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"
        command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}", str(self.folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("rclone did not start")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
