"""Makes a tiny language model with random weights: model.gguf for llama.cpp and tokenizer.json for who counts tokens.

What it says is noise, but its vocabulary is made so that the tokens of an answer can be counted from its text: it
answers only with whole words, each one token with its space before it, so cutting the text into tokens again gives
the very tokens that were generated. A model with a real vocabulary and random weights would not do: it says " t" and
"he", which read back is one token.
"""

import json
import math
import random
import sys
from itertools import product
from pathlib import Path

import gguf
import numpy as np

SEED = 11111
LAYERS, WIDTH, HEADS, HIDDEN, CONTEXT = 4, 128, 4, 256, 4096
WORDS = 1024
CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou\u00e9"  # one of two bytes, so that not everything is ASCII
START, END = "<|im_start|>", "<|im_end|>"
# An answer ends of itself after so many words on average.
MEAN_WORDS = 48
# The first number of every hidden state is this constant, so the output's first column is a bias for each token.
CONSTANT = 30.0
LOGIT_SPREAD = 2.0


def byte_letters():
    """GPT-2's letter for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


LETTERS = byte_letters()


def spelled(text):
    return "".join(LETTERS[byte] for byte in text.encode())


def vocabulary():
    """Tokens in the order of their ids, the merges that make them, and the ids that answers are made of."""
    pick = random.Random(SEED)
    tokens, merges = [*LETTERS], []

    def merge(left, right):
        if left + right not in tokens:
            tokens.append(left + right)
            merges.append((left, right))
        return left + right

    for vowel in VOWELS:
        for left, right in [spelled(vowel)] if len(spelled(vowel)) == 2 else []:
            merge(left, right)
    syllables = [spelled(consonant + vowel) for consonant, vowel in product(CONSONANTS, VOWELS)]
    for syllable in syllables:
        merge(syllable[0], syllable[1:])
    space = spelled(" ")
    for syllable in syllables:
        merge(space, syllable)
    words = pick.sample([*product(syllables, syllables)], WORDS)
    ids = []
    for first, second in words:
        ids.append(len(tokens))
        merge(space + first, second)
    # An answer's first word may come without its space.
    for first, second in words:
        merge(first, second)
    return tokens + [START, END], merges, ids


def tokenizer_json(tokens, merges):
    """Hugging Face's description of the same tokenizer."""
    special = [
        {
            "id": tokens.index(token),
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in (START, END)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }


def biases(tokens, words):
    """The logit of each token before the noise: only words and the end are ever said."""
    bias = np.full(len(tokens), -60.0)
    bias[words] = 0.0
    all_words = len(words) * math.exp(LOGIT_SPREAD**2 / 2)
    bias[tokens.index(END)] = math.log(all_words / MEAN_WORDS)
    return bias


def weights(tokens, words):
    noise = np.random.default_rng(SEED)

    def matrix(rows, columns, spread=None):
        return noise.normal(0, spread or 1 / math.sqrt(columns), (rows, columns)).astype(np.float32)

    def keeps_constant(tensor):
        tensor[0, :] = 0
        return tensor

    embedding = matrix(len(tokens), WIDTH, 1.0)
    embedding[:, 0] = CONSTANT
    # What the last normalisation makes of the constant and of the rest, whose variance is about 1 a layer and embedding.
    rest = WIDTH * (1 + LAYERS)
    scale = math.sqrt((CONSTANT**2 + rest) / WIDTH)
    output = matrix(len(tokens), WIDTH, LOGIT_SPREAD * scale / math.sqrt(rest))
    output[tokens.index(END)] = 0
    output[:, 0] = biases(tokens, words) * scale / CONSTANT
    yield "token_embd.weight", embedding
    yield "output_norm.weight", np.ones(WIDTH, np.float32)
    yield "output.weight", output
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", np.ones(WIDTH, np.float32)
        yield f"{block}.ffn_norm.weight", np.ones(WIDTH, np.float32)
        for part in ("attn_q", "attn_k", "attn_v"):
            yield f"{block}.{part}.weight", matrix(WIDTH, WIDTH)
        yield f"{block}.attn_output.weight", keeps_constant(matrix(WIDTH, WIDTH))
        for part in ("ffn_gate", "ffn_up"):
            yield f"{block}.{part}.weight", matrix(HIDDEN, WIDTH)
        yield f"{block}.ffn_down.weight", keeps_constant(matrix(WIDTH, HIDDEN))


CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{ '" + START + "' + message.role + '\n' + message.content + '" + END + "\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '" + START + "assistant\n' }}{%- endif -%}"
)


def write_gguf(path, tokens, merges, words):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random weights")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if token in (START, END) else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokens.index(START))
    writer.add_eos_token_id(tokens.index(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in weights(tokens, words):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    tokens, merges, words = vocabulary()
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json(tokens, merges), ensure_ascii=False))
    write_gguf(directory / "model.gguf", tokens, merges, words)


if __name__ == "__main__":
    main()
