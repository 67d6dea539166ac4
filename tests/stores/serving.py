"""What the programs of this folder share: they import a library once, then do what each line of their input says.

They run in .venv-stores (`make stores`), never in pgvmig's own environment, and know nothing of pgvmig.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import httpx


def serve(*commands: Callable[..., Any]) -> None:
    """Answer each line, `{"do": name, ...arguments}`, with a line of JSON; what libraries print goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    known = {command.__name__: command for command in commands}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"answer": known[asked.pop("do")](**asked)}
        except Exception:  # noqa: BLE001  # the test shows it
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def embed(base_url: str, texts: list[str]) -> list[list[float]]:
    """Return what an OpenAI-compatible server makes of the texts."""
    asked = {"model": base_url.rstrip("/").split("/")[-2], "input": texts, "encoding_format": "float"}
    models = httpx.get(f"{base_url}/models").raise_for_status().json()["data"]
    response = httpx.post(f"{base_url}/embeddings", json=asked | {"model": models[0]["id"]}).raise_for_status()
    return [item["embedding"] for item in response.json()["data"]]
