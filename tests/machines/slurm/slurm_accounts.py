"""What a cluster keeps its accounts in: slurmdbd, and a MariaDB that listens on a socket in the cluster's folder alone."""

import os
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("slurmdbd", "mariadb-server-core")
# Ended jobs are soon forgotten by all but the accounts.
CONF = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.sock
AccountingStoreFlags=job_comment
MinJobAge=2
"""
NONE = """
AccountingStorageType=accounting_storage/none
MinJobAge=300
"""
DBD = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=accounts
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
"""


def start_accounts(folder: Path, port: int, start: Callable[..., None], until: Callable[[Callable[[], bool], str], None]) -> None:
    """The database and slurmdbd, whose configuration is slurmdbd.conf in `folder`, a link to which lies at /etc/slurm."""
    data, socket = folder / "accounts", folder / "accounts.sock"
    (data / "mysql").mkdir(parents=True)  # no users: the folder is root's alone
    start(
        "mariadbd", "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking", "--skip-grant-tables",
        "--user=root", "--innodb-buffer-pool-size=32M", f"--pid-file={folder}/mariadbd.pid",
    )  # fmt: skip
    until(socket.exists, "mariadbd")
    conf = folder / "slurmdbd.conf"
    conf.touch(0o600)
    conf.write_text(DBD.format(folder=folder, port=port))
    start("slurmdbd", "slurmdbd", "-D", environment={**os.environ, "MYSQL_UNIX_PORT": str(socket)})
    log = folder / "slurmdbd.log"
    until(lambda: log.exists() and "started" in log.read_text(errors="replace"), "slurmdbd")
