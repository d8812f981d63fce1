"""Where a study lies: in a journal in its folder, or in a database that drivers on several machines share.

The folder of a study in a database holds a pointer to it, `storage.txt`: the URL without its password, then the study's
name there. Everything else finds the study by its folder.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from hrsearch.errors import InputError, is_disk_full, root_of, suggestion

JOURNAL = "study.journal"
POINTER = "storage.txt"
SECRET = "HRSEARCH_STORAGE"  # environment variable: the URL with its password, which no file holds
CONNECT_S = 10  # a server that does not answer by then is not there
KINDS = ("postgresql", "sqlite")


@dataclass(frozen=True)
class Pointer:
    """What `storage.txt` says: the database's URL without secrets, and the study's name there."""

    url: str
    name: str


@dataclass(frozen=True)
class Database:
    """A database that this process has opened."""

    storage: BaseStorage
    engine: Engine  # for the lock alone; Optuna's storage has its own

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Nobody else holds the lock of that name in this database. It goes with its holder, however that ends."""
        if self.engine.dialect.name == "sqlite":
            with locked(Path(f"{self.engine.url.database}.lock")):
                yield
            return
        with self.engine.begin() as connection:  # the lock ends with the transaction, and that with the connection
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _key(name)})
            yield


_opened: dict[str, Database] = {}  # by URL without secrets: who has given a password once is not asked again


def pointer_of(folder: Path) -> Pointer | None:
    """The pointer in `folder`; None where the study lies in the folder itself."""
    try:
        url, name = (folder / POINTER).read_text().splitlines()[:2]
    except FileNotFoundError:
        return None
    except ValueError:
        raise InputError(f"{folder / POINTER}: should be a URL and a study's name, a line each") from None
    return Pointer(url, name)


def point_to(folder: Path, url: str, *, begins: bool = True) -> None:
    """Let the study of `folder` lie in the database at `url`, under the folder's name.

    Who does not begin a study makes nothing there, and points to none that is not there. An InputError says that,
    that the database cannot be opened, or that the folder's study lies elsewhere.
    """
    public = public_url(url)
    known = pointer_of(folder)
    another = "start another study with --name"
    if known is None and (folder / JOURNAL).exists():
        raise InputError(f"{folder}: its study lies in {JOURNAL}, not in {public}; {another}")
    if known is not None and known.url != public:
        wrong = f"remove {folder / POINTER} if that is wrong"
        raise InputError(f"{folder}: its study lies in {known.url}, not in {public}; {another}, or {wrong}")
    storage = _database(url, begins=begins).storage
    if known is not None:
        return
    name = folder.resolve().name
    if not begins:
        _check_holds(storage, name, public)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{POINTER}.{os.getpid()}"
    aside.write_text(f"{public}\n{name}\n")
    aside.replace(folder / POINTER)


def _check_holds(storage: BaseStorage, name: str, public: str) -> None:
    names = optuna.get_all_study_names(storage)
    if name not in names:
        raise InputError(f"storage {public}: holds no study {name!r}; {suggestion(name, names)}")


def storage_of(folder: Path, *, begins: bool = True) -> BaseStorage:
    """The storage of the study in `folder`. A journal's path is made absolute: a relative one can spin on a lock.

    Who does not begin a study makes no database: one that is not there is an InputError.
    """
    pointer = pointer_of(folder)
    if pointer:
        return _database(pointer.url, begins=begins).storage
    return in_journal(folder, JournalFileBackend(str(folder.resolve() / JOURNAL)))


def in_journal(folder: Path, journal: BaseJournalBackend) -> BaseStorage:
    """The storage in the journal of `folder`; an InputError where that is damaged."""
    try:
        return JournalStorage(journal)
    except (ValueError, KeyError, TypeError, AssertionError):  # of a line that is no JSON, or no operation of Optuna's
        raise foreign(folder) from None


def foreign(folder: Path) -> InputError:
    """What is told of a study that does not say what every study of ours says."""
    what = f"{folder}: holds a study of another program, or a damaged one"
    return InputError(f"{what}; put a copy of it back, or start another study with --name")


def holds_study(folder: Path) -> bool:
    """Whether a study was begun in `folder`, or in the database that it points to."""
    return (folder / JOURNAL).is_file() or (folder / POINTER).is_file()


def name_in(folder: Path, storage: BaseStorage) -> str | None:
    """The study's name in its storage, which need not be the folder's; None where it has not begun."""
    names = optuna.get_all_study_names(storage)
    pointer = pointer_of(folder)
    if pointer:
        return pointer.name if pointer.name in names else None
    return names[0] if names else None


def exclusive(folder: Path) -> AbstractContextManager[None]:
    """Nobody else changes who runs what in the study of `folder` while this holds, wherever its drivers are."""
    pointer = pointer_of(folder)
    return _database(pointer.url).exclusive(pointer.name) if pointer else locked(folder / ".lock")


@contextmanager
def locked(path: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold the lock file at `path`: one process at a time. The kernel releases it when its holder dies.

    Whoever does not wait for another holder to end is told by a BlockingIOError.
    """
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def reaching(folder: Path) -> Iterator[None]:
    """A database that is lost within is an InputError, one whose disk is full an OSError."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        pointer = pointer_of(folder)
        where = pointer.url if pointer else str(folder)
        if is_disk_full(error):
            raise OSError(errno.ENOSPC, "no room left on the disk", where) from None
        raise InputError(f"storage {where} was lost ({_reason(error)}); the same command goes on") from None


def public_url(url: str) -> str:
    """The URL without its password, a file's path made absolute; an InputError if it cannot be a study's storage."""
    return _without_secrets(_parsed(url)).render_as_string(hide_password=False)


def without_password(argument: str) -> str:
    """What a person typed, fit to be shown: without the password, if it is or holds a URL that has one."""
    option, equals, url = argument.partition("=") if argument.startswith("--storage=") else ("", "", argument)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return argument
    return option + equals + _without_secrets(parsed).render_as_string(hide_password=False)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        raise InputError("storage: expected postgresql://user@host/database or sqlite:///file") from None
    kind = parsed.drivername.split("+")[0]
    if kind not in KINDS:
        raise InputError(f"storage {kind}://: {suggestion(kind, KINDS)}")
    if kind != "sqlite":
        return parsed
    if not parsed.database or parsed.database == ":memory:":
        raise InputError("storage sqlite://: give a file, sqlite:///file")
    return parsed.set(database=str(Path(parsed.database).resolve()))


def _without_secrets(url: URL) -> URL:
    # `set` would take None as "as it was"
    bare = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)
    return bare.difference_update_query(["password"])


def _database(url: str, *, begins: bool = True) -> Database:
    """The database, opened once; where no study was ever begun there, an InputError unless one `begins` now."""
    public = public_url(url)
    if public not in _opened:
        try:
            if not begins and not _has_tables(_with_password(url, public)):
                raise InputError(f"storage {public}: no study was ever begun there; is that where it lies?")
            _opened[public] = _open(_with_password(url, public))
        except ImportError as error:
            raise InputError(f"storage {public}: {error}; pip install 'hrsearch[postgresql]'") from None
        except (StorageInternalError, SQLAlchemyError, OSError) as error:
            how = f"a password goes into --storage or the environment variable {SECRET}"
            raise InputError(f"storage {public} cannot be opened ({_reason(error)}); {how}") from None
    return _opened[public]


def _with_password(url: str, public: str) -> str:
    """The URL; where it has no password of its own, as the environment gives it."""
    secret = os.environ.get(SECRET)
    is_same = secret is not None and url == public and public_url(secret) == public
    return secret if secret and is_same else _parsed(url).render_as_string(hide_password=False)


def _open(url: str) -> Database:
    options = _options(url)
    engine = create_engine(url, **options)
    # Processes that make the tables of an empty database at once would run into each other.
    with Database(optuna.storages.InMemoryStorage(), engine).exclusive("hrsearch tables"):
        return Database(get_storage(RDBStorage(url, engine_kwargs=options)), engine)


def _has_tables(url: str) -> bool:
    """Whether there is a database in which studies were begun; nothing is made by asking."""
    parsed = make_url(url)
    if parsed.drivername.startswith("sqlite") and not Path(str(parsed.database)).is_file():
        return False
    engine = create_engine(url, **_options(url))
    try:
        return inspect(engine).has_table("studies")
    finally:
        engine.dispose()


def _options(url: str) -> dict[str, Any]:
    waits = {"timeout": 60} if url.startswith("sqlite") else {"connect_timeout": CONNECT_S}
    return {"connect_args": waits, "pool_pre_ping": True}  # a server that was started again is connected to again


def _reason(error: BaseException) -> str:
    """The database's own words, in one line."""
    return " ".join(str(root_of(error)).split())[:200]


def _key(name: str) -> int:
    """A lock's number: PostgreSQL takes 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(f"hrsearch {name}".encode()).digest()[:8], signed=True)
