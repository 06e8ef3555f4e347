#!/usr/bin/env python3
"""Makes golden/tales-tokens.safetensors: 20,000 tokens of the text that mamba-tales was trained on.

  pip install tokenizers safetensors numpy
  python3 tests/data/golden/make_tales_tokens.py TALES.txt.xz

input_ids (20000) U16 under the tokenizer of deploy/models/mamba-tales, and text_bytes (1) I64: the UTF-8 bytes that
they stand for. The text is public domain (The Wonderful Wizard of Oz, and what follows it in the file).
"""

import lzma
import pathlib
import sys

import numpy
from safetensors.numpy import save_file
from tokenizers import Tokenizer

TOKENS = 20_000
START = "Dorothy lived in the midst of the great Kansas prairies"
ROOT = pathlib.Path(__file__).resolve().parents[3]


def main():
    text = lzma.open(sys.argv[1], "rt", encoding="utf-8").read()
    text = text[text.index(START) :][: 8 * TOKENS]
    tokenizer = Tokenizer.from_file(str(ROOT / "deploy/models/mamba-tales/tokenizer.json"))
    encoding = tokenizer.encode(text)
    end = encoding.offsets[TOKENS - 1][1]
    save_file(
        {
            "input_ids": numpy.array(encoding.ids[:TOKENS], dtype=numpy.uint16),
            "text_bytes": numpy.array([len(text[:end].encode())], dtype=numpy.int64),
        },
        pathlib.Path(__file__).with_name("tales-tokens.safetensors"),
    )


if __name__ == "__main__":
    main()
