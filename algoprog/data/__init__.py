"""Corpora, tokenizers, token stores and data order.

corpus.py     named sources of documents          tokenizer.py  gpt2 and bpe-N
tokens.py     prepare, open_store                 store.py      TokenStore, what lies on disk
order.py      (seed, step) -> windows             baselines.py  what a model must beat
"""
