"""The workflow's source files on this host: contents by their hash, whole versions put together from them, a copy for each job."""

import hashlib
import os
import shutil


class Sources:
    """`blobs/<sha256>` holds contents, `src/<version>` a whole tree; both below `root`."""

    def __init__(self, root):
        self._blobs, self._trees = os.path.join(root, "blobs"), os.path.join(root, "src")
        os.makedirs(self._blobs, exist_ok=True)
        os.makedirs(self._trees, exist_ok=True)

    def has(self, version):
        return os.path.isdir(os.path.join(self._trees, version))

    def missing(self, manifest):
        """Hashes of contents that are not here yet."""
        wanted = {entry["sha256"] for entry in manifest if "sha256" in entry}
        return sorted(sha for sha in wanted if not os.path.exists(self._blob(sha)))

    def add(self, sha, offset, data, last):
        """One piece of a file's contents. ValueError: what arrived is not what was announced."""
        partial = self._blob(sha) + ".part"
        with open(partial, "r+b" if offset else "wb") as file:
            file.seek(offset)
            file.truncate()
            file.write(data)
        if not last:
            return
        with open(partial, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha:
            os.unlink(partial)
            raise ValueError(f"a source file arrived damaged: sha256 {found} instead of {sha}")
        os.replace(partial, self._blob(sha))

    def install(self, version, manifest, in_use):
        """Put a version together; versions and contents that nothing needs any more go."""
        target = os.path.join(self._trees, version)
        if not self.has(version):
            partial = target + ".part"
            shutil.rmtree(partial, ignore_errors=True)
            os.makedirs(partial)
            for entry in manifest:
                self._put(partial, entry)
            os.rename(partial, target)
        for name in os.listdir(self._trees):
            if name != version and name not in in_use:
                shutil.rmtree(os.path.join(self._trees, name), ignore_errors=True)
        wanted = {entry["sha256"] for entry in manifest if "sha256" in entry}
        for name in os.listdir(self._blobs):
            if name not in wanted:
                os.unlink(os.path.join(self._blobs, name))

    def copy(self, version, folder):
        """A job's own copy: jobs may write beside sources without meeting each other. Folders that are there stay."""
        shutil.copytree(os.path.join(self._trees, version), folder, symlinks=True, dirs_exist_ok=True)

    def _blob(self, sha):
        if len(sha) != 64 or not sha.isalnum():
            raise ValueError(f"not a sha256: {sha!r}")
        return os.path.join(self._blobs, sha)

    def _put(self, tree, entry):
        path = os.path.normpath(entry["path"])
        if os.path.isabs(path) or path.split(os.sep)[0] == "..":
            raise ValueError(f"a source file outside its folder: {entry['path']!r}")
        target = os.path.join(tree, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if "link" in entry:
            os.symlink(entry["link"], target)
            return
        shutil.copyfile(self._blob(entry["sha256"]), target)
        os.chmod(target, 0o755 if entry["executable"] else 0o644)
        os.utime(target, (entry["mtime"], entry["mtime"]))
