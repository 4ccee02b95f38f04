// Points of the compiled core: exact distances of pairs, and products by bfloat16 matrix units. Exact distances have an
// equal in numpy in points.py; read that for the why. Instruction sets are chosen at run time.
//
// Names: N points, D dimensions; a strip is 16 points, a block 256 columns.
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

#if !defined(VREID_PORTABLE) && defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && \
    (__GNUC__ >= 11 || __clang_major__ >= 14)
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
#ifdef __GNUC__
#define PREFETCH(address) __builtin_prefetch(address, 0, 2)  // as far as the second cache, which takes more at once
#define IN_ORDER _Pragma("GCC unroll 1")  // lanes of a loop that was unrolled first are put together badly
#else
#define PREFETCH(address)
#define IN_ORDER
#endif

namespace py = pybind11;
template <class T>
using Array = py::array_t<T, py::array::c_style>;

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
// `x` is one that many are compared with, widened once; what is wanted `next` is asked for meanwhile.
CLONES static double squared_distance(const double* x, const float* y, int64_t dims, const float* next) {
    double sums[16] = {}, total = 0;
    int64_t k = 0;
    for (; k + 16 <= dims; k += 16) {
        PREFETCH(next + k);
        IN_ORDER
        for (int lane = 0; lane < 16; ++lane) {
            double difference = x[k + lane] - double(y[k + lane]);
            sums[lane] += difference * difference;
        }
    }
    for (int lane = 0; lane < 16; ++lane) total += sums[lane];
    for (; k < dims; ++k) total += (x[k] - double(y[k])) * (x[k] - double(y[k]));
    return total;
}

static Array<float> pair_distances(const Points& points, Array<int64_t> rows, const Points& others,
                                   Array<int64_t> columns) {
    Array<float> out(columns.size());
    const int64_t *row = rows.data(), *column = columns.data(), step = rows.size() == 1 ? 0 : 1;
    float* value = out.mutable_data();
    std::vector<double> x(points.dims);
    for (int64_t i = 0; i < columns.size(); ++i) {
        if (i == 0 || row[i * step] != row[(i - 1) * step]) std::copy_n(points[row[i * step]], points.dims, x.begin());
        value[i] = float(squared_distance(x.data(), others[column[i]], points.dims,
                                          others[column[std::min(i + 1, columns.size() - 1)]]));
    }
    return out;
}

constexpr int kBlock = 256;

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

// Writes the bfloat16 nearest to x - centre, 32 numbers a strip's step apart; adds up the squares of x - centre and of
// what rounding changed.
CLONES static void round_off(const float* x, const float* centre, int64_t dims, uint16_t* out, double* square,
                             double* error) {
    double squares[32] = {}, errors[32] = {};
    for (int64_t k = 0; k < dims; k += 32, out += 512) {
        const int64_t count = std::min<int64_t>(32, dims - k);
        float given[32] = {}, middle[32] = {}, rounded[32];
        uint32_t bits[32];
        std::memcpy(given, x + k, count * 4);
        std::memcpy(middle, centre + k, count * 4);
        for (int i = 0; i < 32; ++i) rounded[i] = given[i] - middle[i];
        std::memcpy(bits, rounded, 128);
        for (int i = 0; i < 32; ++i) {
            const uint32_t near = (bits[i] + 0x7fff + (bits[i] >> 16 & 1)) & 0xffff0000;  // ties to even
            bits[i] = bits[i] & 0x7f800000 ? near : 0;                                    // units flush what is tiny
        }
        std::memcpy(rounded, bits, 128);
        for (int i = 0; i < 32; ++i) {
            const double exact = double(given[i]) - middle[i], change = exact - rounded[i];
            out[i] = uint16_t(bits[i] >> 16);
            squares[i] += exact * exact;
            errors[i] += change * change;
        }
    }
    *square = *error = 0;
    for (int i = 0; i < 32; ++i) *square += squares[i], *error += errors[i];
}

// Points less their centre (distances stay, norms and so rounding errors shrink), rounded to bfloat16, in the order in
// which the matrix units read them: per strip of 16 points, per 32 dimensions, 16 x 32 numbers; padded with zeros.
class Packed {
  public:
    Packed(const Points& points, Array<float> centre)
        : size(points.size), steps((points.dims + 31) / 32), squares(points.size), rounding(points.size) {
        const int64_t strips = (size + 31) / 32 * 2, bytes = strips * steps * 1024;
        data_.reset(static_cast<uint16_t*>(std::aligned_alloc(64, bytes)));
        if (!data_) throw std::bad_alloc();
        std::memset(data_.get() + size / 32 * steps * 1024, 0, bytes - size / 32 * steps * 2048);  // below the last row
        for (int64_t i = 0; i < size; ++i) {
            double error;
            round_off(points[i], centre.data(), points.dims, data_.get() + i / 16 * steps * 512 + i % 16 * 32,
                      squares.mutable_data() + i, &error);
            rounding.mutable_data()[i] = std::sqrt(error);
        }
    }
    const uint16_t* strip(int64_t s) const { return data_.get() + s * steps * 512; }
    const int64_t size, steps;
    Array<double> squares, rounding;  // |x - centre|^2, and how far what is multiplied lies from x - centre

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
    const uint16_t* next = rows + steps * 1024;  // the rows after these, an eighth of them at a pair
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
            for (int line = 0; line < 4; ++line) PREFETCH(next + line * 32);
            next += 128;
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
#else
static void configure_tiles() {}
static void release_tiles() {}
static void multiply(const uint16_t*, const uint16_t*, int64_t, int, float*) {}
#endif
