"""A forward pass of a model with many modules is one request: recorded and served as one."""

import threading
import time
import warnings

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import new_store

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import DTYPES, MODES, bag_calls, convert, random_rows, same_bits  # noqa: E402
from torch import nn  # noqa: E402


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=64)


class Bags(nn.Module):
    """A bag per feature, as in Meta's DLRM."""

    def __init__(self, bags):
        super().__init__()
        self.bags = nn.ModuleList(bags)

    def forward(self, calls):
        pooled = []
        for place, (input, offsets, weights) in enumerate(calls):
            pooled.append(self.bags[place](input, offsets, per_sample_weights=weights))
        return pooled


def bags_of(num_tables, dim=4, **options):
    return Bags(nn.EmbeddingBag(20 + i, dim, mode="sum", **options) for i in range(num_tables))


def calls_of(num_tables, samples=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 4, (num_tables, samples), generator=generator)
    return [
        (
            torch.randint(0, 20, (int(each.sum()),), generator=generator),
            torch.cat([torch.zeros(1, dtype=torch.int64), each.cumsum(0)[:-1]]),
            None,
        )
        for each in lengths
    ]


def assert_same_trace(trace, expected):
    assert list(trace.table_names) == list(expected.table_names)
    assert trace.lengths.tolist() == expected.lengths.tolist()
    assert trace.indices.tolist() == expected.indices.tolist()


@pytest.mark.parametrize("batches", [False, True], ids=["each", "batched"])
@pytest.mark.parametrize("padding", [None, 3])
def test_recorded_modules_equal_the_trace_of_a_collection(store, batches, padding):
    model = convert(bags_of(5, padding_idx=padding), store)
    if batches:
        ta.nn.batch_lookups(model)
    collection = ta.nn.TieredEmbeddingBagCollection(model.bags)
    requests = [calls_of(5, seed=seed) for seed in range(20)]
    with store.record() as recorder, torch.inference_mode():
        results = [model(calls) for calls in requests]
    with store.record() as expected, torch.inference_mode():
        for calls, result in zip(requests, results, strict=True):
            inputs, offsets, _ = zip(*calls, strict=True)
            assert same_bits(collection.embedding_bag(inputs, offsets), torch.cat(result, 1))
    assert recorder.num_samples == 100
    assert_same_trace(recorder.to_trace(), expected.to_trace())


def test_recorded_rows_of_a_sample_are_one_sample(store):
    model = convert(nn.Sequential(nn.Embedding(20, 4)), store)
    with store.record() as recorder:
        model(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert recorder.to_trace().lengths.tolist() == [[3, 3]]


def test_recorded_indices_are_those_of_the_lookup(store):
    class Changing(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Embedding(20, 4)
            self.bags = nn.EmbeddingBag(20, 4)

        def forward(self, x, offsets):
            result = self.rows(x), self.bags(x, offsets)
            x.add_(1000)
            offsets.add_(1000)
            return result

    model = convert(Changing(), store)
    with store.record() as recorder:
        model(torch.tensor([1, 2, 3]), torch.tensor([0, 1, 3]))
    assert recorder.to_trace().indices.tolist() == [1, 2, 3, 1, 2, 3]


def test_recorded_modules_of_other_batch_sizes_stay_apart(store):
    model = convert(bags_of(3), store)
    calls = [*calls_of(1, samples=4), *calls_of(1, samples=2), *calls_of(1, samples=4)]
    with store.record() as recorder, pytest.warns(UserWarning, match="numbers of samples"):
        model(calls)
    assert recorder.num_samples == 6
    with store.record(), warnings.catch_warnings():
        warnings.simplefilter("error")
        model(calls)


def test_recorded_call_outside_a_request_warns(store):
    model = convert(bags_of(3), store)
    call = calls_of(1)[0]
    model.bags[0](*call)
    with store.record() as recorder, pytest.warns(UserWarning, match="Call the model that"):
        model.bags[0](*call)
    assert recorder.num_samples == 5


def test_request_that_fails_ends(store):
    model = convert(bags_of(3), store)
    calls = calls_of(3)
    with store.record() as recorder:
        with pytest.raises(IndexError, match=r"table 'bags\.2'"):
            model([*calls[:2], (torch.tensor([99]), torch.tensor([0]), None)])
        model(calls)
    assert recorder.num_samples == 10


def test_requests_of_threads_are_recorded_apart(store):
    model = convert(bags_of(3), store)
    requests = [calls_of(3, samples=2, seed=seed) for seed in range(200)]
    rows = sorted(sum(len(input) for input, _, _ in calls) for calls in requests)

    def serve(part):
        with torch.inference_mode():
            for calls in requests[part::4]:
                model(calls)

    threads = [threading.Thread(target=serve, args=(part,)) for part in range(4)]
    with store.record() as recorder:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    _, lengths = recorder._concatenated()
    assert sorted(lengths.reshape(-1, 2).sum(1).tolist()) == rows


@settings(max_examples=60)
@given(data=st.data())
def test_batched_lookups_equal_single_ones_bit_for_bit(data):
    modules, calls = [], []
    for seed in range(data.draw(st.integers(1, 4))):
        dtype, mode = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(MODES))
        weighted = mode == "sum" and data.draw(st.booleans())
        last = data.draw(st.booleans())
        padding = data.draw(st.none() | st.integers(0, 9))
        modules.append(
            nn.EmbeddingBag.from_pretrained(
                random_rows(10, data.draw(st.integers(1, 20)), dtype, seed),
                mode=mode,
                include_last_offset=last,
                padding_idx=padding,
            )
        )
        calls.append(
            tuple(data.draw(bag_calls(10, dtype, weighted=weighted, include_last_offset=last)))
        )
    with new_store(fast_rows=16) as store, torch.set_grad_enabled(data.draw(st.booleans())):
        model = convert(Bags(modules), store)
        expected = model(calls)
        ta.nn.batch_lookups(model)
        store.reset_stats()
        results = model(calls)
        assert store.stats().calls == 1
        assert all(map(same_bits, results, expected))


class Mixed(nn.Module):
    """Inputs computed from those of the model, and a model that torch.fx traces in part."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(50, 4)
        self.users = nn.Embedding(50, 4)
        self.tags = nn.EmbeddingBag(50, 4, mode="sum")
        self.late = nn.Embedding(50, 4)
        self.register_buffer("start", torch.tensor(7))
        self.dense = nn.Linear(4, 4)

    def forward(self, x, batch, scale=1):
        dense = self.dense(batch["dense"])
        rows = self.items(x[:, 0]) + self.users(x[:, 1] % 40 + self.start) * scale
        rows = rows + self.tags(batch["tags"], batch["starts"])
        if dense.sum() > 1e9:  # torch.fx stops here
            return rows
        return dense + rows + self.late((dense[:, 0] > 0).long())


def mixed_call():
    return torch.arange(12).reshape(6, 2), {
        "tags": torch.arange(20),
        "starts": torch.arange(6) * 3,
        "dense": torch.rand(6, 4),
    }


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_batched_lookups_of_computed_inputs_equal_single_ones(store, mode):
    model = convert(Mixed().eval(), store)
    with mode():
        call = mixed_call()
        expected = model(*call, scale=2)
        ta.nn.batch_lookups(model)
        store.reset_stats()
        with pytest.warns(UserWarning, match="inputs of 1 modules, such as 'late', are not known"):
            assert same_bits(model(*call, scale=2), expected)
        assert store.stats().calls == 2
        assert same_bits(model(*call, scale=2), expected)


class Changing(nn.Module):
    """Changes its inputs, in place or not, in ways that a trace shows or hides."""

    def __init__(self):
        super().__init__()
        self.one = nn.Embedding(50, 4)
        self.two = nn.Embedding(50, 4)
        self.shift = 0

    def forward(self, x, y):
        x.add_(1)
        return self.one(x) + self.two(y.clamp(max=20) + self.shift)


@pytest.mark.filterwarnings("ignore:the inputs of")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_batched_lookups_follow_changed_inputs(store, mode):
    model = convert(Changing(), store)
    plain = Changing()
    plain.load_state_dict(ta.nn.state_dict(model))
    ta.nn.batch_lookups(model)
    for seed in range(3):
        with mode():
            call = torch.arange(3) + seed, torch.arange(18, 21) + seed
            same = [each.clone() for each in call]
            model.shift = plain.shift = seed
            result = model(*call)
            assert torch.equal(call[0], torch.arange(3) + seed + 1)
            assert same_bits(result, plain(*same))


def test_batched_lookups_of_a_model_without_known_inputs(store):
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Embedding(20, 4)
            self.more = nn.Embedding(20, 4)

        def forward(self, x):
            x = x if x.sum() > 0 else x + 1
            return self.rows(x) + self.more(x)

    model = ta.nn.batch_lookups(convert(Hidden(), store))
    with pytest.warns(UserWarning, match=r"inputs of 2 modules.* torch\.fx: .*control flow"):
        model(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"got none of 2: .*table\.prefetch\(indices\)"):
        ta.nn.prefetch(model, torch.tensor([1, 2]))


def test_batch_lookups_while_other_threads_serve(store):
    model = convert(bags_of(4), store)
    other = convert(Mixed(), store)
    call, mixed, wrong, stop = calls_of(4), mixed_call(), [], threading.Event()
    expected, expected_mixed = model(call), other(*mixed)

    def serve():
        with torch.no_grad():
            while not stop.is_set():
                if not all(map(same_bits, model(call), expected)):
                    wrong.append(model)
                if not same_bits(other(*mixed), expected_mixed):
                    wrong.append(other)

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for scale in range(50):  # each is a new structure, which torch.fx traces
            ta.nn.prefetch(other, *mixed, scale=scale)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", ["bags", "mixed"])
def test_prefetch_makes_rows_of_a_request_resident(store, kind):
    model, call = (bags_of(4), (calls_of(4),)) if kind == "bags" else (Mixed(), mixed_call())
    model = convert(model, store)
    queued = ta.nn.prefetch(model, *call)
    assert queued > 10
    while ta.nn.prefetch(model, *call) > 0:
        time.sleep(0.01)
    model(*call)
    stats = store.stats()
    assert stats.prefetches_useful + stats.prefetches_late > 10
    assert stats.on_demand_fetches <= 2 * (kind == "mixed")  # rows of the late module


def test_prefetch_of_modules_and_errors(store):
    model = convert(bags_of(2), store)
    assert ta.nn.prefetch(model.bags[0], torch.tensor([[1, 2]])) == 2
    collection = ta.nn.TieredEmbeddingBagCollection(model.bags)
    assert ta.nn.prefetch(nn.Sequential(model.bags[1]), torch.tensor([[1, 2]])) == 2
    assert collection.embedding_bag([torch.tensor([[1]])] * 2).shape == (1, 8)
    with pytest.raises(IndexError, match="99"):
        ta.nn.prefetch(model.bags[0], torch.tensor([[99]]))
    with pytest.raises(ValueError, match=r"got none in the Linear; call tieralloc\.nn\.convert"):
        ta.nn.prefetch(nn.Linear(2, 3), torch.rand(1))
    with pytest.raises(ValueError, match="got none in the Linear"):
        ta.nn.batch_lookups(nn.Linear(2, 3))
    assert ta.nn.batch_lookups(model.bags[0]) is model.bags[0]


def test_parts_of_a_model_belong_to_its_request(store):
    model = nn.ModuleDict({"one": bags_of(2), "two": bags_of(2)})

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = model

        def forward(self, calls):
            return self.parts["one"](calls) + self.parts["two"](calls)

    whole = Whole()
    for name, part in model.items():
        ta.nn.convert(part, store, prefix=f"{name}.", verbose=False)
    ta.nn.batch_lookups(whole)
    calls = calls_of(2)
    with store.record() as recorder:
        whole(calls)
    assert recorder.num_samples == 5
    assert store.stats().calls == 1


@pytest.mark.parametrize("batches", [False, True])
def test_compiled_model_is_one_request(store, batches):
    model = convert(bags_of(3), store)
    calls = calls_of(3)
    expected = model(calls)
    if batches:
        ta.nn.batch_lookups(model)
    # Early lookups need the hooks of the model, which run beside its graphs.
    compiled = torch.compile(model, backend="eager", fullgraph=not batches)
    with torch.inference_mode():
        compiled(calls)
        store.reset_stats()
        with store.record() as recorder:
            assert all(map(same_bits, compiled(calls), expected))
    assert recorder.num_samples == 5
    assert store.stats().calls == (1 if batches else 3)


def test_interrupted_request_leaves_the_next_ones_whole(store):
    class Interrupted(nn.Module):
        def __init__(self):
            super().__init__()
            self.bags = bags_of(2)
            self.others = [bags_of(2)]  # no part of this module

        def forward(self, calls, interrupt):
            self.bags(calls)
            if interrupt:
                raise KeyboardInterrupt
            return self.others[0](calls) + self.bags(calls)

    model = Interrupted()
    ta.nn.convert(model, store, verbose=False)
    convert(model.others[0], store, prefix="other.")
    calls = calls_of(2)
    with store.record() as recorder:
        with pytest.raises(KeyboardInterrupt):
            model(calls, True)
        model.others[0](calls)
        assert recorder.drain()[1].size == 5
        model(calls, False)
        assert recorder.drain()[1].size == 10
