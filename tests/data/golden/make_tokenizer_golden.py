#!/usr/bin/env python3
"""Writes tokenizer-cases.json and tokenizer-variants.json: what Hugging Face's `tokenizers` makes of many texts.

    pip install tokenizers==0.23.3
    python3 tests/data/golden/make_tokenizer_golden.py        (Python 3.11: its unicodedata is Unicode 14.0)

The ids of a text are stored as "COUNT:HASH", HASH being FNV-1a (64 bit) over the ids as little-endian 32-bit words,
and so is the decoded text (over its UTF-8 bytes) where it differs from the text itself; short cases store the ids.
Files already there are replaced. Texts come from fixed seeds, so that a second run gives the same files.
"""
import json
import pathlib
import random
import struct
import unicodedata

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
TOKENIZERS = {
    "gpt-neox": ROOT / "tests/data/models/gpt-neox-tokenizer/tokenizer.json",
    "mamba-tales": ROOT / "deploy/models/mamba-tales/tokenizer.json",
}
BY_CATEGORY = {}
for code in range(0x110000):
    category = unicodedata.category(chr(code))
    if category not in ("Cs", "Cn", "Co"):
        BY_CATEGORY.setdefault(category, []).append(chr(code))
CATEGORIES = sorted(BY_CATEGORY)
ASSIGNED = [c for category in CATEGORIES for c in BY_CATEGORY[category]]

SCRIPTS = [
    "The quick brown fox jumps over the lazy dog.", "Zażółć gęślą jaźń, příliš žluťoučký kůň",
    "Съешь же ещё этих мягких французских булок", "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία", "עטלף אבק נס דרך מזגן",
    "أبجد هوز حطي كلمن سعفص قرشت", "नमस्ते दुनिया क्षत्रिय", "বাংলা ভাষা আমার", "தமிழ் மொழி இனிது", "తెలుగు భాష",
    "ಕನ್ನಡ ಭಾಷೆ", "മലയാളം ഭാഷ", "ภาษาไทยไม่มีช่องว่าง", "ພາສາລາວ", "မြန်မာဘာသာ", "ភាសាខ្មែរ", "བོད་སྐད་", "ქართული ენა",
    "Հայոց լեզու", "አማርኛ ቋንቋ", "日本語の文章、カタカナとひらがな。", "中文字符：简体与繁體", "한국어 문장입니다", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ", "𐍅𐌿𐌻𐍆𐌹𐌻𐌰", "𓀀𓁐𓂀 𒀀𒁀", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "𞤆𞤵𞤤𞤢𞤪", "tiếng Việt có dấu", "Ǆǅǆ ŉ ſ İıiI ß ẞ ﬁ ﬆ",
]
EMOJI = [
    "👍🏽 👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪🇫🇷 ❤️‍🔥 1️⃣", "👨🏿‍🚀👩🏻‍🔬🧑‍🤝‍🧑", "☺︎ ☺️ ©️ ™", "a🙂b 🙃 c", "🫠🫱🏼‍🫲🏿", "🤷‍♀️🤷‍♂️",
]
NEWLINES = ["\n", "\r", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029", "\n\n", "\n \n", " \n", "\n ", "\r\r\n\n", "\t\n"]
PIECES = [
    "<|endoftext|>", "<|padding|>", "<|endoftext", "|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "''", "’s",
    " ", "  ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\u200d", "\ufe0f", "\u0301", "\u0327", "\u0323", "\u180e",
    "\ufeff", "\x00", "\x7f", "a", "the", "Word", "1", "42", "³", "½", "Ⅷ", "!", "...", "?!", "$", "€", "é", "e\u0301", "한", "ᄒ", "ᅡ",
]


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def ids_digest(ids):
    return f"{len(ids)}:{fnv(struct.pack(f'<{len(ids)}I', *ids)):016x}"


def random_text(rng):
    kind, length = rng.random(), rng.randint(1, 60)
    if kind < 0.3:
        return "".join(rng.choice(ASSIGNED) for _ in range(length))
    if kind < 0.6:
        return "".join(rng.choice(BY_CATEGORY[rng.choice(CATEGORIES)]) for _ in range(length))
    if kind < 0.9:
        return "".join(rng.choice(PIECES) for _ in range(length))
    return "".join(rng.choice("abcXYZ 0123  \n\t'.,é") for _ in range(length))


def texts():
    result = [""] + SCRIPTS + EMOJI
    result += [f"one{n}two" for n in NEWLINES] + [n * 3 for n in NEWLINES] + [f" {n} x" for n in NEWLINES]
    result += [f"a{chr(c)}b {chr(c)} {chr(c)}{chr(c)}" for c in list(range(0x20)) + list(range(0x7F, 0xA1))]
    result += [" " * n for n in range(1, 61)] + ["x" + " " * n + "y" for n in range(1, 61)]
    result += ["\t" * n + " " * n + "z\n" for n in range(1, 31)] + [" <|endoftext|> ", "a<|endoftext|><|padding|>b"]
    for category in CATEGORIES:
        members = BY_CATEGORY[category]
        step = max(1, len(members) // 8)
        for c in members[::step]:
            result.append(f"a{c}b 1{c}2 !{c}! {c}{c}  {c}")
    rng = random.Random(20)
    result += [random_text(rng) for _ in range(600)]
    return result


RUNS = ["a", "ab", " ", "\n", " \n", "'", "0", "!", "é", "e\u0301", "\u0301\u0327", "日", "🙂", "👩‍👧", "\x00", " the", "<|endoftext|>", "\u00a0", "aA1 "]


def cases():
    loaded = {name: Tokenizer.from_file(str(path)) for name, path in TOKENIZERS.items()}
    all_texts = texts()
    runs = [{"unit": unit, "count": 100_000 // len(unit.encode())} for unit in RUNS]
    result = {"tokenizers": tokenizers.__version__, "texts": all_texts, "runs": runs, "ids": {}, "run_ids": {}, "decoded": {}}
    for name, tokenizer in loaded.items():
        encoded = [tokenizer.encode(text).ids for text in all_texts]
        result["ids"][name] = [ids_digest(ids) for ids in encoded]
        result["run_ids"][name] = [ids_digest(tokenizer.encode(r["unit"] * r["count"]).ids) for r in runs]
        decoded = [tokenizer.decode(ids, skip_special_tokens=False) for ids in encoded]
        result["decoded"][name] = {
            str(i): f"{fnv(back.encode()):016x}" for i, (text, back) in enumerate(zip(all_texts, decoded)) if back != text
        }
    return result


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
])
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior, invert=False, literal=False):
    return {"type": "Split", "pattern": {"String" if literal else "Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def added(first_id, *tokens):
    defaults = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return [{"id": first_id + i, **defaults, **token} for i, token in enumerate(tokens)]


def template(prefix, suffix):
    names = {name: {"id": name, "ids": ids, "tokens": [name] * len(ids)} for name, ids in prefix + suffix}
    special = lambda items: [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in items]
    text = lambda which: {"Sequence": {"id": which, "type_id": 0}}
    return {
        "type": "TemplateProcessing", "single": special(prefix) + [text("A")] + special(suffix),
        "pair": special(prefix) + [text("A"), text("B")], "special_tokens": names,
    }


def base_tokenizer():
    """A small byte-level BPE; all variants share its vocabulary and merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=560, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([(" ".join(SCRIPTS[:4]) + " hello world 123 456 it's we'll don't 2024") * 20], trainer)
    return json.loads(tokenizer.to_str())


def variants(base):
    n = len(base["model"]["vocab"])
    result = []
    add = lambda name, **keys: result.append({"name": name, "set": keys})
    add("plain")
    add("nfc", normalizer={"type": "NFC"})
    add("nfc in a sequence", normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]})
    add("prefix space", pre_tokenizer=byte_level(prefix=True))
    add("no regex", pre_tokenizer=byte_level(regex=False))
    add("no regex, prefix space", pre_tokenizer=byte_level(prefix=True, regex=False))
    add("ignore merges", model={**base["model"], "ignore_merges": True, "merges": base["model"]["merges"][40:]})
    add("some merges", model={**base["model"], "merges": base["model"]["merges"][::2]})
    add("merges as lines", model={**base["model"], "merges": ["#version: 0.2"] + [" ".join(m) for m in base["model"]["merges"]]})
    add("merge listed twice", model={**base["model"], "merges": base["model"]["merges"] + base["model"]["merges"][:20]})
    few = {t: i for i, t in enumerate(t for t in base["model"]["vocab"] if t not in "0123ĠĊ")}
    add("bytes without a token", model={**base["model"], "vocab": few, "merges": [
        m for m in base["model"]["merges"] if all(t in few for t in (*m, "".join(m)))]})
    for individual in (False, True):
        digits = {"type": "Digits", "individual_digits": individual}
        add(f"digits individual={individual}", pre_tokenizer=sequence(digits, byte_level()))
        add(f"digits individual={individual} after bytes", pre_tokenizer=sequence(byte_level(), digits))
    for behavior in BEHAVIORS:
        punctuation = {"type": "Punctuation", "behavior": behavior}
        add(f"punctuation {behavior}", pre_tokenizer=sequence(punctuation, byte_level(regex=False)))
        for invert in (False, True):
            add(f"split by words {behavior} invert={invert}",
                pre_tokenizer=sequence(split(r"\p{L}+|\d+", behavior, invert), byte_level(regex=False)))
            add(f"split by a literal {behavior} invert={invert}",
                pre_tokenizer=sequence(split("l", behavior, invert, literal=True), byte_level(regex=False)))
    add("punctuation by default", pre_tokenizer=sequence({"type": "Punctuation"}, byte_level()))
    for name, pattern in (("llama 3", LLAMA3), ("qwen 2", QWEN2), ("gpt-4o", GPT4O), ("deepseek", DEEPSEEK)):
        add(f"pattern of {name}", pre_tokenizer=sequence(split(pattern, "Isolated"), byte_level(regex=False)))
    add("falcon", pre_tokenizer=sequence(
        {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(), {"type": "Digits", "individual_digits": False},
        split("[0-9][0-9][0-9]", "Isolated")))
    add("empty matches", pre_tokenizer=sequence(split(r"[0-9]*", "Isolated"), byte_level(regex=False)))
    add("look-behind", pre_tokenizer=sequence(split(r"(?<=[a-z])(?=[A-Z])|(?<!\s)\s{2,}(?=\S)", "MergedWithNext"), byte_level(regex=False)))
    add("lazy, possessive, atomic", pre_tokenizer=sequence(split(r"a.*?b|\s++|(?>\d+)x|[A-Z]*+-", "Removed"), byte_level()))
    add("classes", pre_tokenizer=sequence(split(r"[\s\p{P}]+|[^\D\x{661}]|[\x{3b1}-\x{3c9}]", "Isolated"), byte_level(regex=False)))
    add("ignoring case", pre_tokenizer=sequence(split(r"(?i:k|s|[x-z]+)", "Isolated"), byte_level(regex=False)))
    add("nested sequences", pre_tokenizer=sequence(sequence(split(r"\s", "MergedWithPrevious")), sequence(byte_level())))
    add("bytes twice", pre_tokenizer=sequence(byte_level(), byte_level()))
    tokens = added(
        n, {"content": "<s>", "special": True}, {"content": "<mask>", "lstrip": True, "special": True},
        {"content": "<r>", "rstrip": True}, {"content": "<lr>", "lstrip": True, "rstrip": True},
        {"content": "word", "single_word": True}, {"content": "two words", "single_word": True, "normalized": True},
        {"content": "e\u0301t", "normalized": True}, {"content": "na\u00efve"}, {"content": "ab"}, {"content": "abc"}, {"content": "bcd"},
        {"content": "  ", "normalized": True}, {"content": " <r>"}, {"content": "<|x|>", "lstrip": True, "rstrip": True, "single_word": True})
    add("added tokens", added_tokens=tokens)
    add("added tokens, nfc", added_tokens=tokens, normalizer={"type": "NFC"})
    add("added tokens, prefix space", added_tokens=tokens, pre_tokenizer=byte_level(prefix=True))
    add("template", added_tokens=tokens, post_processor=template([("<s>", [n])], [("</s>", [n + 1, n])]))
    add("template in a sequence", added_tokens=tokens, post_processor={"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, template([("<s>", [n])], [("x", [5, 6])])]})
    return result


def variant_texts():
    words = ["hello", "world", "Hello", "HELLO", "it's", "we'LL", "<s>", "<mask>", "<r>", "<lr>", "word", "words", "two words", "two  words", "étude", "e\u0301t",
             "étal", "naïve", "abcd", "abc", "ab", "<|x|>", "x<|x|>y", "123", "1234567", "٣٤", "½", "foo_bar", "-", "--", "(", ")", "!?", "…", "«", "。", "$", "+", " ", "  ",
             "     ", "\n", "\r\n", "\t", "\u00a0", "\u2003", "\u180e", "\u200d", "ſK", "sS", "xyzXYZ", "ab12cd", "aXbYc", "ΑΩαω", "日本", "🙂", "\u0301", "a", "b", "1", ".", "word_", "_word", "wordⓐ", "🅰word", "l", "lll"]
    rng = random.Random(21)
    result = ["", "hello world", "Hello   world 123!"]
    result += ["".join(rng.choice(words) for _ in range(rng.randint(1, 12))) for _ in range(60)]
    result += [" ".join(rng.choice(words) for _ in range(rng.randint(1, 8))) for _ in range(30)]
    result += [random_text(rng) for _ in range(30)]
    return result


def variants_file():
    base = base_tokenizer()
    all_texts = variant_texts()
    result = {"tokenizers": tokenizers.__version__, "base": base, "texts": all_texts, "variants": []}
    for variant in variants(base):
        tokenizer = Tokenizer.from_str(json.dumps({**base, **variant["set"]}))
        encoded = [tokenizer.encode(text).ids for text in all_texts]
        plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in all_texts]
        if "model" in variant["set"]:  # says what differs from the base, instead of a second vocabulary
            changed = variant["set"].pop("model")
            variant["set_model"] = {k: v for k, v in changed.items() if v != base["model"].get(k)}
        result["variants"].append({
            **variant, "ids": ids_digest([i for ids in encoded for i in ids + [0xFFFFFFFF]]),
            "each": [f"{fnv(struct.pack(f'<{len(ids)}I', *ids)) & 0xFFFFFFFF:08x}" for ids in encoded],
            "plain": ids_digest([i for ids in plain for i in ids + [0xFFFFFFFF]]),
            "decoded": f"{fnv(''.join(tokenizer.decode(ids, skip_special_tokens=False) for ids in encoded).encode()):016x}",
            "decoded_skip": f"{fnv(''.join(tokenizer.decode(ids, skip_special_tokens=True) for ids in encoded).encode()):016x}",
        })
    return result


def write(name, value):
    path = HERE / name
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    write("tokenizer-cases.json", cases())
    write("tokenizer-variants.json", variants_file())
