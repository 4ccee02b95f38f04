// The compiled core of vreid.retrieval: the k-reciprocal encoding, ranks, and what Python sees. Their equals in scipy and
// numpy stand in jaccard.py and evaluation.py; read those for the why.
//
// Names: N points, K = list length; sparse matrices are by rows: starts (rows + 1), columns, values.

#include "_core_neighbours.h"

struct Sparse {
    std::vector<int64_t> starts{0};
    std::vector<int32_t> columns;
    std::vector<float> values;

    py::tuple arrays() const {
        return py::make_tuple(Array<int64_t>(int64_t(starts.size()), starts.data()),
                              Array<int32_t>(int64_t(columns.size()), columns.data()),
                              Array<float>(int64_t(values.size()), values.data()));
    }
};

// For each point those of its first `length` neighbours that have it among their first `length`; each row ends at -1.
static std::vector<int32_t> reciprocal(const int32_t* lists, int64_t points, int64_t width, int length) {
    std::vector<int32_t> out(points * (length + 1), -1);
    for (int64_t i = 0; i < points; ++i) {
        int32_t* next = &out[i * (length + 1)];
        for (int a = 0; a < length; ++a) {
            const int32_t j = lists[i * width + a], *back = lists + int64_t(j) * width;
            if (std::find(back, back + length, int32_t(i)) != back + length) *next++ = j;
        }
    }
    return out;
}

// The expanded k-reciprocal set of every point, columns ascending.
static py::tuple expanded(Array<int32_t> lists, int length, int half_length) {
    const int64_t count = lists.shape(0);
    Sparse out;
    {
        const int32_t* list = lists.data();
        py::gil_scoped_release release;
        const auto near = reciprocal(list, count, lists.shape(1), length);
        const auto half = reciprocal(list, count, lists.shape(1), half_length);
        std::vector<int64_t> in_near(count, -1), in_out(count, -1);  // the last row that held this column
        for (int64_t i = 0; i < count; ++i) {
            const int32_t* own = &near[i * (length + 1)];
            auto take = [&](int32_t j) {
                if (in_out[j] != i) in_out[j] = i, out.columns.push_back(j);
            };
            for (auto j = own; *j >= 0; ++j) in_near[*j] = i, take(*j);
            for (auto j = own; *j >= 0; ++j) {
                const int32_t* theirs = &half[int64_t(*j) * (half_length + 1)];
                int size = 0, shared = 0;
                for (; theirs[size] >= 0; ++size) shared += in_near[theirs[size]] == i;
                if (3 * shared > 2 * size) std::for_each(theirs, theirs + size, take);
            }
            std::sort(out.columns.begin() + out.starts.back(), out.columns.end());
            out.starts.push_back(int64_t(out.columns.size()));
        }
    }
    return out.arrays();
}

// Each row replaced by the mean of the rows of its first `length` neighbours.
static py::tuple averaged(Array<int64_t> starts, Array<int32_t> columns, Array<float> values, Array<int32_t> lists,
                          int length) {
    const int64_t count = lists.shape(0), width = lists.shape(1);
    Sparse out;
    {
        const int64_t* start = starts.data();
        const int32_t *column = columns.data(), *list = lists.data();
        const float* value = values.data();
        py::gil_scoped_release release;
        std::vector<float> sums(count, 0);
        std::vector<int64_t> seen(count, -1);
        for (int64_t i = 0; i < count; ++i) {
            for (int a = 0; a < length; ++a) {
                const int64_t j = list[i * width + a];
                for (int64_t p = start[j]; p < start[j + 1]; ++p) {
                    const int32_t c = column[p];
                    if (seen[c] != i) seen[c] = i, sums[c] = 0, out.columns.push_back(c);
                    sums[c] += value[p];
                }
            }
            std::sort(out.columns.begin() + out.starts.back(), out.columns.end());
            for (size_t p = out.starts.back(); p < out.columns.size(); ++p)
                out.values.push_back(sums[out.columns[p]] / float(length));
            out.starts.push_back(int64_t(out.columns.size()));
        }
    }
    return out.arrays();
}

// Jaccard distances below 1 and up to `below`: rows first to last of one matrix by rows against all rows of another,
// `height` of them, given by columns.
static py::tuple jaccard(Array<int64_t> starts, Array<int32_t> columns, Array<float> values, int64_t first, int64_t last,
                         Array<int64_t> other_starts, Array<int32_t> other_rows, Array<float> other_values,
                         int64_t height, float below) {
    Sparse out;
    {
        const int64_t *start = starts.data(), *other_start = other_starts.data();
        const int32_t *column = columns.data(), *other = other_rows.data();
        const float *value = values.data(), *other_value = other_values.data();
        py::gil_scoped_release release;
        std::vector<float> shared(height, 0);
        std::vector<int32_t> touched;
        std::vector<std::pair<int32_t, float>> kept;
        for (int64_t i = first; i < last; ++i) {
            touched.clear();
            for (int64_t p = start[i]; p < start[i + 1]; ++p)
                for (int64_t q = other_start[column[p]]; q < other_start[column[p] + 1]; ++q) {
                    if (shared[other[q]] == 0) touched.push_back(other[q]);
                    shared[other[q]] += std::min(value[p], other_value[q]);
                }
            kept.clear();
            for (const int32_t j : touched) {
                const float t = std::min(shared[j], 1.0f), distance = 1 - t / (2 - t);
                shared[j] = 0;
                if (distance <= below) kept.emplace_back(j, distance);
            }
            std::sort(kept.begin(), kept.end());
            for (const auto& [j, distance] : kept) out.columns.push_back(j), out.values.push_back(distance);
            out.starts.push_back(int64_t(out.columns.size()));
        }
    }
    return out.arrays();
}

CLONES static int below(const float* values, int count, float limit) {
    int sum = 0;
    for (int i = 0; i < count; ++i) sum += values[i] < limit;
    return sum;
}

CLONES static int up_to(const float* values, int count, float limit) {
    int sum = 0;
    for (int i = 0; i < count; ++i) sum += values[i] <= limit;
    return sum;
}

// Ascending ranks (from 1) of `mates` in `row`, ties by index; +inf has no rank.
static py::array ranks(Array<float> row, Array<int64_t> mates) {
    const float* values = row.data();
    const int64_t size = row.size();
    std::vector<int64_t> held, out;
    float largest = -kInfinity;
    for (int64_t m = 0; m < mates.size(); ++m) {
        const float value = values[mates.data()[m]];
        if (!(value < kInfinity)) continue;
        held.push_back(mates.data()[m]);
        largest = std::max(largest, value);
    }
    out.assign(held.size(), 1);
    for (int64_t start = 0; start < size; start += 1024) {  // as many as stay in the nearest cache
        const int count = int(std::min<int64_t>(1024, size - start));
        if (!up_to(values + start, count, largest)) continue;
        for (size_t m = 0; m < held.size(); ++m) {
            const int before = int(std::min<int64_t>(std::max<int64_t>(held[m] - start, 0), count));
            const float value = values[held[m]];
            out[m] += up_to(values + start, before, value) + below(values + start + before, count - before, value);
        }
    }
    std::sort(out.begin(), out.end());
    return Array<int64_t>(int64_t(out.size()), out.data());
}

static py::dict information() {
    py::dict out;
    out["matrix_units"] = ask_for_matrix_units();
#if VREID_X86
    __builtin_cpu_init();
    out["instructions"] = __builtin_cpu_supports("avx512f") ? "avx512f" : __builtin_cpu_supports("avx2") ? "avx2" : "x86-64";
#else
    out["instructions"] = "as compiled";
#endif
#ifdef __VERSION__
    out["compiler"] = __VERSION__;
#endif
    return out;
}

PYBIND11_MODULE(_core, module) {
    module.attr("revision") = 2;  // of what is offered here; core.py refuses another
    py::class_<Points>(module, "Points").def(py::init<std::vector<Array<float>>>());
    py::class_<Packed>(module, "Packed")
        .def(py::init<const Points&, Array<float>>())
        .def_readonly("squares", &Packed::squares)
        .def_readonly("rounding", &Packed::rounding);
    py::class_<Search>(module, "Search")
        .def(py::init<const Points&, const Points&, bool, Array<float>, Array<float>, Array<float>, int, bool, int>(),
             py::keep_alive<1, 2>(), py::keep_alive<1, 3>())
        .def("offer", &Search::offer)
        .def("multiply_bfloat16", &Search::multiply_bfloat16)
        .def("finish", &Search::finish);
    module.def("pair_distances", &pair_distances);
    module.def("expanded", &expanded);
    module.def("averaged", &averaged);
    module.def("jaccard", &jaccard);
    module.def("ranks", &ranks);
    module.def("information", &information);
}
