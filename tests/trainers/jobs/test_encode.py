import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainers.jobs import tiny
from trainers.jobs.chat_template import CHATML, MARKED_CHATML
from trainers.jobs.encode import encode, likelihoods
from trainers.jobs.fit import fit_trace
from trainers.jobs.formats import pair_messages, split_answer, trace_messages

CONVERSATIONS = [
    [{"role": "user", "content": "hi"}],
    [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " two\nlines "}],
    [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "<|im_end|>"},
        {"role": "assistant", "content": ""},
    ],
]


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    found = AutoTokenizer.from_pretrained(tiny_base)
    found.chat_template = MARKED_CHATML
    return found


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("asks", [True, False])
def test_the_marked_template_renders_the_same_text(tokenizer, messages, asks):
    texts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks, chat_template=template)
        for template in (CHATML, MARKED_CHATML)
    ]
    assert texts[0] == texts[1]


def test_the_assistants_words_and_the_end_of_its_turn_are_marked(tokenizer):
    found = encode(tokenizer, trace_messages(tiny.traces(4)[3]), 2**30)
    said = tokenizer.decode([token for token, mark in zip(found.ids, found.said, strict=True) if mark])
    thinking = "The cellar has 3 rows of 2. So I multiply: 3 times 2."
    assert said == f"<think>\n{thinking}\n</think>\n\nIt has 6 lights.<|im_end|>"


def test_a_likelihood_is_the_models_own_loss(tiny_base, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    messages = [m["prompt"] + m["chosen"] for m in map(pair_messages, tiny.pairs(3))]
    for one, found in zip(messages, likelihoods(model, [encode(tokenizer, m, 512) for m in messages]), strict=True):
        encoded = encode(tokenizer, one, 512)
        labels = [token if said else -100 for token, said in zip(encoded.ids, encoded.said, strict=True)]
        loss = model(input_ids=torch.tensor([encoded.ids]), labels=torch.tensor([labels])).loss
        assert found.tokens == sum(encoded.said)
        assert found.loss == pytest.approx(loss.item(), abs=1e-5)


def test_a_long_trace_loses_reasoning_and_keeps_its_whole_answer(tokenizer):
    long = tiny.traces(1)[0].model_copy(update={"thinking": "I count rows. " * 60})
    fitted = fit_trace(tokenizer, long, 128)
    cut = fitted.example
    assert fitted.cut
    assert cut is not None
    assert len(encode(tokenizer, trace_messages(cut), 2**30).ids) <= 128
    thinking, response = split_answer(trace_messages(cut)[-1]["content"])
    assert response == long.response
    assert thinking is not None
    assert thinking.startswith("I count rows. I count")
    assert thinking.endswith("rows.")


def test_a_short_trace_stays_as_it_is(tokenizer):
    trace = tiny.traces(1)[0]
    fitted = fit_trace(tokenizer, trace, 512)
    assert (fitted.example, fitted.cut, fitted.reason) == (trace, False, None)


def test_a_trace_whose_answer_alone_is_too_long_is_none(tokenizer):
    trace = tiny.traces(1)[0].model_copy(update={"response": "many words " * 200})
    fitted = fit_trace(tokenizer, trace, 128)
    assert (fitted.example, fitted.reason) == (None, "too_long")
