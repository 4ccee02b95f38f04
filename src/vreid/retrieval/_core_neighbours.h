// Nearest neighbours of the compiled core: candidates from products, and their exact distances. All of it has an equal
// in numpy beside it, in candidates.py and points.py; read those for the why. Instruction sets are chosen at run time.
//
// Names: N points, D dimensions; a strip is 16 points, a block 256 columns; d = |x|^2 + |y|^2 - 2xy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && (__GNUC__ >= 11 || __clang_major__ >= 14)
#define VREID_X86 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VREID_X86 0
#define CLONES
#endif

namespace py = pybind11;
template <class T>
using Array = py::array_t<T, py::array::c_style>;

static const float kInfinity = std::numeric_limits<float>::infinity();

// Runs work(0), ..., work(count - 1) on some threads, in any order.
template <class Work>
static void in_parallel(int threads, int64_t count, Work work) {
    std::atomic<int64_t> next{0};
    auto run = [&](int thread) {
        for (int64_t i; (i = next++) < count;) work(i, thread);
    };
    std::vector<std::thread> others;
    for (int t = 1; t < std::min<int64_t>(threads, count); ++t) others.emplace_back(run, t);
    run(0);
    for (auto& other : others) other.join();
}

// ---- points ---------------------------------------------------------------------------------------------------------

// N features in one array or two, as Points in points.py.
class Points {
  public:
    Points(std::vector<Array<float>> parts) : parts_(std::move(parts)), split_(parts_.at(0).shape(0)) {
        dims = parts_[0].shape(1);
        first_ = parts_[0].data();
        second_ = parts_.size() > 1 ? parts_[1].data() : nullptr;
        size = split_ + (second_ ? parts_[1].shape(0) : 0);
    }
    const float* operator[](int64_t i) const { return i < split_ ? first_ + i * dims : second_ + (i - split_) * dims; }
    int64_t size, dims;

  private:
    std::vector<Array<float>> parts_;
    int64_t split_;
    const float *first_, *second_;
};

// Differences and sums in float64. The order of the sum is fixed: equal pairs have equal distances wherever they stand.
CLONES static double squared_distance(const float* x, const float* y, int64_t dims) {
    double sums[16] = {}, total = 0;
    int64_t k = 0;
    for (; k + 16 <= dims; k += 16)
        for (int lane = 0; lane < 16; ++lane) {
            double difference = double(x[k + lane]) - double(y[k + lane]);
            sums[lane] += difference * difference;
        }
    for (int lane = 0; lane < 16; ++lane) total += sums[lane];
    for (; k < dims; ++k) total += (double(x[k]) - double(y[k])) * (double(x[k]) - double(y[k]));
    return total;
}

static Array<float> pair_distances(const Points& points, Array<int64_t> rows, const Points& others,
                                   Array<int64_t> columns) {
    Array<float> out(columns.size());
    const int64_t *row = rows.data(), *column = columns.data(), step = rows.size() == 1 ? 0 : 1;
    float* value = out.mutable_data();
    for (int64_t i = 0; i < columns.size(); ++i)
        value[i] = float(squared_distance(points[row[i * step]], others[column[i]], points.dims));
    return out;
}

// ---- candidates -----------------------------------------------------------------------------------------------------

struct Candidate {
    float value;
    int32_t column;
    bool operator<(const Candidate& other) const {
        return value < other.value || (value == other.value && column < other.column);
    }
};

// Candidates in candidates.py: for each row every column that may be among its `count` smallest values.
class Candidates {
  public:
    Candidates(int64_t rows, int count)
        : count_(count), width_(count ? 6 * count + 40 : 0), held_(rows * width_), sizes_(rows), room_(rows) {
        limits.resize(rows);
        clear();
    }
    void clear() {
        std::fill(sizes_.begin(), sizes_.end(), 0);
        std::fill(room_.begin(), room_.end(), 2 * count_ + 10);
        std::fill(limits.begin(), limits.end(), count_ ? std::numeric_limits<float>::max() : -kInfinity);
    }
    void add(int64_t row, Candidate candidate, float window) {
        if (!(candidate.value <= limits[row])) return;
        held_[row * width_ + sizes_[row]++] = candidate;
        if (sizes_[row] == room_[row]) prune(row, window);
    }
    void merge(int64_t row, const Candidates& from, int64_t its_row, float window) {
        if (from.failed(its_row)) limits[row] = -kInfinity;
        for (int i = 0; i < from.sizes_[its_row]; ++i) add(row, from.held_[its_row * from.width_ + i], window);
    }
    void prune(int64_t row, float window) {
        Candidate* held = begin(row);
        if (!count_ || sizes_[row] < count_ || failed(row)) return;
        std::nth_element(held, held + count_ - 1, held + sizes_[row]);
        const float bound = std::nextafterf(held[count_ - 1].value + window, kInfinity);
        const float limit = limits[row] = std::min(limits[row], bound);
        auto outside = [limit](const Candidate& candidate) { return candidate.value > limit; };
        sizes_[row] = int(std::remove_if(held, held + sizes_[row], outside) - held);
        room_[row] = std::min(width_, sizes_[row] + count_ + 10);  // often enough for a tight limit
        if (sizes_[row] == width_) limits[row] = -kInfinity;       // too much too close to call
    }
    bool failed(int64_t row) const { return limits[row] == -kInfinity && count_; }
    Candidate* begin(int64_t row) { return held_.data() + row * width_; }
    Candidate* end(int64_t row) { return begin(row) + sizes_[row]; }
    std::vector<float> limits;

  private:
    int count_, width_;
    std::vector<Candidate> held_;
    std::vector<int> sizes_, room_;
};

// Distances of one row from its products, and which of them the row or a column may want.
CLONES static void scan_row(const float* products, float square, const float* squares, int columns, float near, float far,
                            const float* column_near, const float* column_far, float* distances, uint8_t* wanted) {
    for (int c = 0; c < columns; ++c) {
        const float d = (square + squares[c]) - 2 * products[c];
        distances[c] = d;
        wanted[c] = (d <= near) | (-d <= far) | (d <= column_near[c]) | (-d <= column_far[c]);
    }
}

// Both ends of all rows: `near` collects the smallest distances, `far` the largest ones (as smallest of -d).
struct Ends {
    Ends(int64_t rows, int count, bool farthest) : near(rows, count), far(rows, farthest ? 1 : 0) {}
    void clear() { near.clear(), far.clear(); }
    Candidates near, far;
};

constexpr int kBlock = 256, kMaxColumns = 64 * 64;

class Search {
  public:
    // With `alone` both sides are the same points: tiles of the upper triangle serve rows and columns.
    Search(const Points& points, const Points& others, bool alone, Array<float> squares, Array<float> other_squares,
           Array<float> window, int count, bool farthest, int threads)
        : points_(points), others_(others), alone_(alone), squares_(squares), other_squares_(other_squares),
          window_(window), count_(count), farthest_(farthest), threads_(threads),
          rows_(points.size, count, farthest), nowhere_(kMaxColumns, -kInfinity) {}

    // A tile of products xy made elsewhere.
    void offer(int64_t first_row, int64_t first_column, Array<float> tile) {
        const int columns = int(tile.shape(1));
        if (columns > kMaxColumns) throw std::invalid_argument("tile too wide");
        Ends side(alone_ && first_row != first_column ? columns : 0, count_, farthest_);
        scan(tile.data(), int(tile.shape(0)), columns, columns, first_row, first_column,
             alone_ && first_row != first_column ? &side : nullptr);
        if (alone_ && first_row != first_column) merge(side, first_column, columns);
    }

    void multiply_bfloat16(const class Packed& points, const class Packed& others);

    // Exact distances decide. Fills (N, count) index and squared, (N,) farthest; returns the rows given up.
    py::array finish(Array<int32_t> index, Array<float> squared, Array<float> farthest) {
        int32_t* index_out = index.mutable_data();
        float *squared_out = squared.mutable_data(), *far_out = farthest.mutable_data();
        std::vector<uint8_t> failed(points_.size);
        {
            py::gil_scoped_release release;
            const std::vector<int64_t> order = by_company();
            in_parallel(threads_, (points_.size + 255) / 256, [&](int64_t part, int) {
                for (int64_t at = part * 256; at < std::min(points_.size, part * 256 + 256); ++at) {
                    const int64_t row = order[at];
                    failed[row] = rows_.near.failed(row) || rows_.far.failed(row);
                    if (failed[row]) continue;
                    decide(rows_.near, row, 1);
                    std::sort(rows_.near.begin(row), rows_.near.end(row));
                    for (int i = 0; i < count_; ++i) {
                        index_out[row * count_ + i] = rows_.near.begin(row)[i].column;
                        squared_out[row * count_ + i] = rows_.near.begin(row)[i].value;
                    }
                    decide(rows_.far, row, -1);
                    for (auto c = rows_.far.begin(row); c != rows_.far.end(row); ++c)
                        far_out[row] = std::max(far_out[row], -c->value);
                }
            });
        }
        std::vector<int64_t> given_up;
        for (int64_t row = 0; row < points_.size; ++row)
            if (failed[row]) given_up.push_back(row);
        return Array<int64_t>(int64_t(given_up.size()), given_up.data());
    }

  private:
    // All rows, each followed by its candidates: neighbours have candidates in common, and these stay in the cache.
    std::vector<int64_t> by_company() {
        std::vector<int64_t> order;
        std::vector<bool> taken(points_.size);
        auto take = [&](int64_t row) {
            if (!taken[row]) taken[row] = true, order.push_back(row);
        };
        for (int64_t row = 0; row < points_.size; ++row) {
            if (taken[row]) continue;
            take(row);
            if (alone_)
                for (auto c = rows_.near.begin(row); c != rows_.near.end(row); ++c) take(c->column);
        }
        return order;
    }
    void decide(Candidates& side, int64_t row, int sign) {
        side.prune(row, window_.data()[row]);
        for (auto c = side.begin(row); c != side.end(row); ++c)
            c->value = sign * float(squared_distance(points_[row], others_[c->column], points_.dims));
    }
    void merge(Ends& side, int64_t first, int64_t count) {
        for (int64_t c = 0; c < count; ++c) {
            rows_.near.merge(first + c, side.near, c, window_.data()[first + c]);
            rows_.far.merge(first + c, side.far, c, window_.data()[first + c]);
        }
    }
    // Rows of products into the rows' candidates and, where given, the columns'.
    void scan(const float* products, int rows, int columns, int stride, int64_t first_row, int64_t first_column,
              Ends* side) {
        float distances[kMaxColumns];
        uint8_t wanted[kMaxColumns + 8] = {};
        const float* window = window_.data();
        const float* nowhere = nowhere_.data();
        for (int r = 0; r < rows; ++r) {
            const int64_t row = first_row + r;
            scan_row(products + int64_t(r) * stride, squares_.data()[row], other_squares_.data() + first_column, columns,
                     rows_.near.limits[row], rows_.far.limits[row], side ? side->near.limits.data() : nowhere,
                     side ? side->far.limits.data() : nowhere, distances, wanted);
            for (int start = 0; start < columns; start += 8) {
                uint64_t eight;
                std::memcpy(&eight, wanted + start, 8);
                if (!eight) continue;
                for (int c = start; c < std::min(columns, start + 8); ++c) {
                    if (!wanted[c]) continue;
                    const float d = distances[c];
                    const int64_t column = first_column + c;
                    if (alone_ && row == column) continue;
                    rows_.near.add(row, {d, int32_t(column)}, window[row]);
                    rows_.far.add(row, {-d, int32_t(column)}, window[row]);
                    if (!side) continue;
                    side->near.add(c, {d, int32_t(row)}, window[column]);
                    side->far.add(c, {-d, int32_t(row)}, window[column]);
                }
            }
        }
    }

    const Points &points_, &others_;
    const bool alone_;
    Array<float> squares_, other_squares_, window_;
    const int count_;
    const bool farthest_;
    const int threads_;
    Ends rows_;
    std::vector<float> nowhere_;
};

// ---- bfloat16 matrix units ------------------------------------------------------------------------------------------

static bool ask_for_matrix_units() {
#if VREID_X86
    unsigned a, b, c, d;
    const bool present = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);
    return present && syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
#else
    return false;
#endif
}

// Points rounded to bfloat16 in the order in which the matrix units read them: per strip of 16 points, per 32
// dimensions, 16 x 32 numbers; padded with zeros. `rounding` is |x - bfloat16(x)| of each point.
class Packed {
  public:
    explicit Packed(const Points& points)
        : size(points.size), steps((points.dims + 31) / 32), rounding(points.size) {
        const int64_t strips = (size + 31) / 32 * 2, bytes = strips * steps * 1024;
        data_.reset(static_cast<uint16_t*>(std::aligned_alloc(64, bytes)));
        if (!data_) throw std::bad_alloc();
        std::memset(data_.get(), 0, bytes);
        for (int64_t i = 0; i < size; ++i) {
            const float* x = points[i];
            uint16_t* out = data_.get() + i / 16 * steps * 512 + i % 16 * 32;
            double error = 0;
            for (int64_t k = 0; k < points.dims; ++k) {
                uint32_t bits;
                std::memcpy(&bits, &x[k], 4);
                bits = (bits & 0x7f800000) ? (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000 : 0;  // units flush tiny
                float rounded;
                std::memcpy(&rounded, &bits, 4);
                out[k / 32 * 512 + k % 32] = uint16_t(bits >> 16);
                error += (double(x[k]) - rounded) * (double(x[k]) - rounded);
            }
            rounding.mutable_data()[i] = std::sqrt(error);
        }
    }
    const uint16_t* strip(int64_t s) const { return data_.get() + s * steps * 512; }
    const int64_t size, steps;
    Array<double> rounding;

  private:
    struct Free {
        void operator()(uint16_t* p) const { std::free(p); }
    };
    std::unique_ptr<uint16_t[], Free> data_;
};

#if VREID_X86
#define TILES __attribute__((target("amx-tile,amx-bf16")))

struct alignas(64) TileConfiguration {  // eight tiles of 16 rows of 64 bytes
    uint8_t palette = 1, start = 0, unused[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static const TileConfiguration kTiles;  // not a local: compilers drop stores that only the instruction reads

TILES static void configure_tiles() { _tile_loadconfig(&kTiles); }

TILES static void release_tiles() { _tile_release(); }

// products (32, kBlock) = 32 rows (two strips) x `pairs` pairs of column strips.
TILES static void multiply(const uint16_t* rows, const uint16_t* columns, int64_t steps, int pairs, float* products) {
    for (int pair = 0; pair < pairs; ++pair) {
        const uint16_t *a = rows, *b = columns + pair * steps * 1024;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t k = 0; k < steps; ++k, a += 512, b += 512) {
            _tile_loadd(4, a, 64);
            _tile_loadd(5, a + steps * 512, 64);
            _tile_loadd(6, b, 64);
            _tile_loadd(7, b + steps * 512, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        float* out = products + pair * 32;
        _tile_stored(0, out, kBlock * 4);
        _tile_stored(1, out + 16, kBlock * 4);
        _tile_stored(2, out + 16 * kBlock, kBlock * 4);
        _tile_stored(3, out + 16 * kBlock + 16, kBlock * 4);
    }
}

void Search::multiply_bfloat16(const Packed& points, const Packed& others) {
    if (!ask_for_matrix_units()) throw std::runtime_error("no matrix units");
    py::gil_scoped_release release;
    const int64_t steps = others.steps;
    std::unique_ptr<uint32_t[]> room(new uint32_t[kBlock * steps * 16 + 16]);
    auto columns = reinterpret_cast<uint32_t*>((reinterpret_cast<uintptr_t>(room.get()) + 63) & ~uintptr_t(63));
    std::vector<Ends> sides(threads_, Ends(alone_ ? kBlock : 0, count_, farthest_));
    for (int64_t first = 0; first < others.size; first += kBlock) {
        const int count = int(std::min<int64_t>(kBlock, others.size - first)), pairs = (count + 31) / 32;
        for (int64_t tile = 0; tile < pairs * 2 * steps; ++tile) {  // the right operand: 2 x 2 byte pairs transposed
            auto from = reinterpret_cast<const uint32_t*>(others.strip(first / 16)) + tile * 256;
            for (int r = 0; r < 16; ++r)
                for (int c = 0; c < 16; ++c) columns[tile * 256 + c * 16 + r] = from[r * 16 + c];
        }
        for (auto& side : sides) side.clear();
        const int64_t rows = alone_ ? first + count : points.size;
        // eight strips at a time: a thread's products stay in its cache
        in_parallel(threads_, (rows + 127) / 128, [&](int64_t part, int thread) {
            alignas(64) float products[32 * kBlock];
            configure_tiles();
            for (int64_t row = part * 128; row < std::min(rows, part * 128 + 128); row += 32) {
                multiply(points.strip(row / 16), reinterpret_cast<uint16_t*>(columns), steps, pairs, products);
                scan(products, int(std::min<int64_t>(32, rows - row)), count, kBlock, row, first,
                     alone_ && row < first ? &sides[thread] : nullptr);
            }
            release_tiles();
        });
        if (alone_)
            for (auto& side : sides) merge(side, first, count);
    }
}
#else
void Search::multiply_bfloat16(const Packed&, const Packed&) { throw std::runtime_error("no matrix units"); }
#endif
