"""What a cluster has, and what is to be there: kubectl, with errors of one line."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from groundwork.errors import UserError, short

ENDED = ("Completed", "Failed")  # the conditions of a JobSet that does no more
DELETE_SECONDS = 300  # how long pods may take to go, beyond the time to save in


def require() -> None:
    """Checks that kubectl is there.

    Raises:
      UserError: it is not.
    """
    if shutil.which("kubectl") is None:
        raise UserError("kubectl is not on the PATH: --dry-run prints what it would be given")


def get(name: str, namespace: str) -> list[str]:
    """Returns the command that prints a JobSet as JSON, or nothing where there is none."""
    where = f"--namespace={namespace}"
    return ["kubectl", "get", "jobset", name, where, "--ignore-not-found", "--output=json"]


def delete(name: str, namespace: str, save_seconds: int) -> list[str]:
    """Returns the command that removes a JobSet, and ends when its Jobs and pods are gone.

    A new JobSet of the same name would meet the old one's Jobs otherwise.
    """
    limit = f"--timeout={DELETE_SECONDS + save_seconds}s"
    rest = ["--ignore-not-found", "--cascade=foreground", limit]
    return ["kubectl", "delete", "jobset", name, f"--namespace={namespace}", *rest]


def create() -> list[str]:
    """Returns the command that creates what it reads, and refuses what is there already."""
    return ["kubectl", "create", "--filename=-"]


def found(name: str, namespace: str) -> dict[str, Any] | None:
    """Returns a JobSet as the cluster has it; None if there is none of that name.

    Raises:
      UserError: kubectl refuses, or answers with something else than a JobSet.
    """
    text = run(get(name, namespace))
    if not text.strip():
        return None
    try:
        answer = json.loads(text)
        return {"metadata": dict(answer["metadata"]), "status": dict(answer.get("status") or {})}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"kubectl get jobset {name} gave no JobSet: {short(text)}") from error


def ended(jobset: dict[str, Any]) -> str:
    """Returns how a JobSet has ended, `Completed`, `Failed` or `Deleted`; "" if it has not."""
    conditions = jobset["status"].get("conditions") or []
    state = [c["type"] for c in conditions if c["type"] in ENDED and c["status"] == "True"]
    if not state and jobset["metadata"].get("deletionTimestamp"):
        return "Deleted"
    return state[0] if state else ""


def run(command: Sequence[str], text: str = "") -> str:
    """Runs kubectl and returns its output.

    Raises:
      UserError: it fails; the error has its last line.
    """
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        verb = " ".join(command[:2])
        raise UserError(f"{verb} failed (exit code {done.returncode}): {short(said[-1].strip())}")
    return done.stdout
