"""What the base model is pretrained with: tokens, labels, and batches for a GPU."""

import pytest
import torch
from chats import chat
from gsm8k_grpo.config.sections import Architecture
from gsm8k_grpo.stages.base.corpus import Document
from gsm8k_grpo.stages.base.pretraining import new_model, padded_right
from gsm8k_grpo.stages.base.tokenizer import END, count_cut, tokenize_documents, train_tokenizer
from transformers import DataCollatorForSeq2Seq

SHAPE = Architecture(vocabulary=400, hidden=32, intermediate=64, layers=2, heads=2, context=256)
DOCUMENTS = [
    Document(chat("How many?", "english", False), "The answer is 4."),
    Document([], "3*4=12\n12-5=7"),
    Document(chat("How many pens has Mia now?", "english", False), "Mia has 3*4=12 pens.\n#### 12"),
    Document(chat("How many?", "english", False), "2*2=4\n#### 4"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOCUMENTS, SHAPE.vocabulary)


@pytest.fixture(scope="module")
def sequences(tokenizer):
    return tokenize_documents(DOCUMENTS, tokenizer, SHAPE.context)


def test_a_chat_has_labels_on_its_completion_and_a_drill_on_all_of_it(tokenizer, sequences):
    for document, tokens in zip(DOCUMENTS, sequences, strict=True):
        labelled = [label for label in tokens["labels"] if label != -100]
        assert tokenizer.decode(labelled) == document.completion + END
        assert tokens["input_ids"][-len(labelled) :] == labelled
        turns = [f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in document.prompt]
        prompt = "".join([*turns, "<|im_start|>assistant\n"] if turns else [])
        assert tokenizer.decode(tokens["input_ids"][: -len(labelled)]) == prompt


def test_a_document_is_cut_to_the_context(tokenizer, sequences):
    cut = tokenize_documents(DOCUMENTS, tokenizer, 12)
    assert [tokens["input_ids"] for tokens in cut] == [tokens["input_ids"][:12] for tokens in sequences]
    assert [tokens["labels"] for tokens in cut] == [tokens["labels"][:12] for tokens in sequences]


def test_a_document_that_fits_the_context_exactly_is_not_counted_as_cut(tokenizer, sequences):
    lengths = sorted(len(tokens["input_ids"]) for tokens in sequences)
    for context in (lengths[-1], lengths[-1] - 1):
        longer = sum(length > context for length in lengths)
        assert count_cut(tokenize_documents(DOCUMENTS, tokenizer, context), tokenizer) == longer
    assert longer > 0


def test_a_batch_for_a_gpu_has_the_same_loss_as_a_masked_one(tokenizer, sequences):
    """For chats only: with padding on the left, the first token of a drill is predicted from padding."""
    torch.manual_seed(0)
    model, chats = new_model(SHAPE, tokenizer), [sequences[0], sequences[2]]
    masked = DataCollatorForSeq2Seq(tokenizer, padding=True)([dict(tokens) for tokens in chats])
    padded = padded_right(chats, tokenizer.pad_token_id)
    assert padded["input_ids"].shape == masked["input_ids"].shape
    assert masked["attention_mask"].min() == 0
    torch.testing.assert_close(model(**padded).loss, model(**masked).loss)
