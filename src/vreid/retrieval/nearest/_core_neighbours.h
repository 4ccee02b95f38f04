// Nearest neighbours of the compiled core: candidates from products; exact distances decide. All of it has an equal in
// numpy in candidates.py and neighbours.py; read those for the why.
//
// Names: N points, D dimensions; a block is 256 columns; d = |x|^2 + |y|^2 - 2xy.
#pragma once

#include "_core_points.h"

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kLargest = std::numeric_limits<float>::max();

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
        : limits(rows), count_(count), width_(count ? 4 * count + 60 : 0), held_(rows * width_), smallest_(rows * count),
          sizes_(rows), lost_(rows) {
        clear();
    }
    void clear() {
        std::fill(sizes_.begin(), sizes_.end(), 0);
        std::fill(lost_.begin(), lost_.end(), kInfinity);
        std::fill(smallest_.begin(), smallest_.end(), kLargest);
        std::fill(limits.begin(), limits.end(), count_ ? kLargest : -kInfinity);
    }
    void add(int64_t row, Candidate candidate, float window) {
        if (!(candidate.value <= limits[row])) return;
        held_[row * width_ + sizes_[row]++] = candidate;
        float* heap = &smallest_[row * count_];
        if (candidate.value < heap[0]) {
            int at = 0;
            for (int child; (child = 2 * at + 1) < count_; at = child) {
                child += child + 1 < count_ && heap[child + 1] > heap[child];
                if (heap[child] <= candidate.value) break;
                heap[at] = heap[child];
            }
            heap[at] = candidate.value;
            limits[row] = std::min(limits[row], bound(row, window));
        }
        if (sizes_[row] == width_) prune(row, window);
    }
    void merge(int64_t row, const Candidates& from, int64_t its_row, float window) {
        lost_[row] = std::min(lost_[row], from.lost_[its_row]);
        for (int i = 0; i < from.sizes_[its_row]; ++i) add(row, from.held_[its_row * from.width_ + i], window);
    }
    // Forgets what the limit excludes; says whether nothing that matters was ever forgotten.
    bool prune(int64_t row, float window) {
        if (!count_) return true;
        Candidate* held = begin(row);
        auto outside = [limit = limits[row]](const Candidate& candidate) { return candidate.value > limit; };
        sizes_[row] = int(std::remove_if(held, held + sizes_[row], outside) - held);
        if (sizes_[row] > width_ - width_ / 4) {  // too much too close to call: a crowd that later ones may outdo
            auto nearer = [](const Candidate& a, const Candidate& b) { return a.value < b.value; };
            std::nth_element(held, held + width_ / 2, held + sizes_[row], nearer);
            lost_[row] = std::min(lost_[row], held[width_ / 2].value);
            limits[row] = std::min(limits[row], lost_[row]);
            sizes_[row] = width_ / 2;
        }
        return bound(row, window) < lost_[row];
    }
    void cut(int64_t row, const Candidate* end) { sizes_[row] = int(end - begin(row)); }
    Candidate* begin(int64_t row) { return held_.data() + row * width_; }
    Candidate* end(int64_t row) { return begin(row) + sizes_[row]; }
    std::vector<float> limits;

  private:
    float bound(int64_t row, float window) const {
        const float sum = smallest_[row * count_] + window;
        return sum + std::abs(sum) * 3e-7f;  // not below the sum of real numbers
    }
    int count_, width_;
    std::vector<Candidate> held_;
    std::vector<float> smallest_;  // of each row a heap of the `count` smallest values, the largest of them on top
    std::vector<int> sizes_;
    std::vector<float> lost_;  // the smallest value forgotten for want of room
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

constexpr int kMaxColumns = 4096;

class Search {
  public:
    // With `alone` both sides are the same points: tiles of the upper triangle serve rows and columns.
    Search(const Points& points, const Points& others, bool alone, Array<float> squares, Array<float> other_squares,
           Array<float> window, int count, bool farthest, int threads)
        : points_(points), others_(others), alone_(alone), squares_(squares), other_squares_(other_squares),
          window_(window), count_(count), farthest_(farthest), threads_(threads),
          rows_(points.size, count, farthest), nowhere_(kMaxColumns, -kInfinity), decided_(points.size) {}

    // A tile of products xy made elsewhere.
    void offer(int64_t first_row, int64_t first_column, Array<float> tile) {
        const int columns = int(tile.shape(1));
        if (columns > kMaxColumns) throw std::invalid_argument("tile too wide");
        scan(tile.data(), int(tile.shape(0)), columns, columns, first_row, first_column,
             alone_ && first_row != first_column ? &rows_ : nullptr, first_column);
    }

    void multiply_bfloat16(const Packed& points, const Packed& others);

    // Exact distances decide. Fills (N, count) index and squared, (N,) farthest; returns the rows given up.
    py::array finish(Array<int32_t> index, Array<float> squared, Array<float> farthest) {
        int32_t* index_out = index.mutable_data();
        float *squared_out = squared.mutable_data(), *far_out = farthest.mutable_data();
        std::vector<uint8_t> failed(points_.size);
        {
            py::gil_scoped_release release;
            const std::vector<int64_t> order = by_company();
            in_parallel(threads_, (points_.size + 255) / 256, [&](int64_t part, int) {
                std::vector<double> x(points_.dims);
                for (int64_t at = part * 256; at < std::min(points_.size, part * 256 + 256); ++at) {
                    const int64_t row = order[at];
                    const float window = window_.data()[row];
                    failed[row] = !rows_.near.prune(row, window) | !rows_.far.prune(row, window);
                    if (failed[row]) continue;
                    std::copy_n(points_[row], points_.dims, x.begin());
                    decide(rows_.near, row, x.data(), count_, 1);
                    decided_[row].store(true, std::memory_order_release);
                    for (int i = 0; i < count_; ++i) {
                        index_out[row * count_ + i] = rows_.near.begin(row)[i].column;
                        squared_out[row * count_ + i] = rows_.near.begin(row)[i].value;
                    }
                    decide(rows_.far, row, x.data(), 1, -1);
                    if (farthest_ && others_.size > int64_t(alone_)) far_out[row] = -rows_.far.begin(row)->value;
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
    // The same pair seen from the other end, where that row has been decided.
    const Candidate* compared(int64_t row, int64_t column) {
        if (!alone_ || !decided_[row].load(std::memory_order_acquire)) return nullptr;
        const Candidate *first = rows_.near.begin(row), *last = rows_.near.end(row);
        const Candidate* found = std::find_if(first, last, [=](const Candidate& c) { return c.column == column; });
        return found == last ? nullptr : found;
    }
    // Leaves exact values, ascending: all that may be among the first `count`. `x` is the row's feature; `sign` is -1
    // where values are -d.
    void decide(Candidates& side, int64_t row, const double* x, int count, int sign) {
        const float window = window_.data()[row];
        std::sort(side.begin(row), side.end(row));
        Candidate *first = side.begin(row), *last = side.end(row);
        float largest = -kInfinity;
        for (auto c = first; c != last; ++c) {
            // the first `count` are at most `largest`; what is beyond it by more than E is not one of them
            if (c - first >= count && c->value > largest + std::abs(largest) * 1e-6f + window / 2) {
                side.cut(row, c);
                break;
            }
            const Candidate* known = &side == &rows_.near ? compared(c->column, row) : nullptr;
            const float* next = others_[c + 1 < last ? c[1].column : c->column];
            c->value = known ? known->value : sign * float(squared_distance(x, others_[c->column], points_.dims, next));
            if (c - first < count) largest = std::max(largest, c->value);
        }
        std::sort(first, side.end(row));
    }
    void merge(Ends& side, int64_t first, int64_t count) {
        for (int64_t c = 0; c < count; ++c) {
            rows_.near.merge(first + c, side.near, c, window_.data()[first + c]);
            rows_.far.merge(first + c, side.far, c, window_.data()[first + c]);
        }
    }
    // Rows of products into the rows' candidates and, where given, the columns' (`place` is the first column's there).
    void scan(const float* products, int rows, int columns, int stride, int64_t first_row, int64_t first_column,
              Ends* side, int64_t place) {
        float distances[kMaxColumns];
        uint8_t wanted[kMaxColumns + 8] = {};
        const float* window = window_.data();
        const float* column_near = side ? side->near.limits.data() + place : nowhere_.data();
        const float* column_far = side ? side->far.limits.data() + place : nowhere_.data();
        for (int r = 0; r < rows; ++r) {
            const int64_t row = first_row + r;
            scan_row(products + int64_t(r) * stride, squares_.data()[row], other_squares_.data() + first_column, columns,
                     rows_.near.limits[row], rows_.far.limits[row], column_near, column_far, distances, wanted);
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
                    side->near.add(place + c, {d, int32_t(row)}, window[column]);
                    side->far.add(place + c, {-d, int32_t(row)}, window[column]);
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
    std::vector<std::atomic<bool>> decided_;
};

void Search::multiply_bfloat16(const Packed& points, const Packed& others) {
    if (!ask_for_matrix_units()) throw std::runtime_error("no matrix units");
    py::gil_scoped_release release;
    const int64_t steps = others.steps;
    std::unique_ptr<uint32_t[]> room(new uint32_t[kBlock * steps * 16 + 16]);
    auto columns = reinterpret_cast<uint32_t*>((reinterpret_cast<uintptr_t>(room.get()) + 63) & ~uintptr_t(63));
    const bool shared = alone_ && threads_ > 1;  // threads share out the rows, so each has columns of its own
    std::vector<Ends> sides(shared ? threads_ : 0, Ends(kBlock, count_, farthest_));
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
                     alone_ && row < first ? (shared ? &sides[thread] : &rows_) : nullptr, shared ? 0 : first);
            }
            release_tiles();
        });
        for (auto& side : sides) merge(side, first, count);
    }
}
