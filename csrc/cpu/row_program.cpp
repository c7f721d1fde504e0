#include "fwdkern/row_program.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "bfloat16.h"
#include "fwdkern/parallel.h"
#include "kernels_of.h"
#include "position.h"

namespace fwdkern {

namespace {

int64_t rows_of_line(const RowNode& node, const Rectangle& window, int64_t y) {
    const int64_t* line = node.rows.offset + y * node.width;
    return line[window.x1] - line[window.x0];
}

// The order in which the lines of one block are computed: from `done` to `until`, band by band. Of a node's lines,
// those from `live` on are still read.
class Walk {
public:
    std::vector<int64_t> done, until, live;

    Walk(const RowPass& pass, const Rectangle* windows) : pass_(pass), windows_(windows) {
        for (int64_t n = 0; n < pass.node_count; ++n) done.push_back(windows[n].y0);
        until = live = done;
    }

    bool next() {
        if (finished_) return false;
        const int64_t due = std::min(done[pass_.pivot] + pass_.band, windows_[pass_.pivot].y1);
        finished_ = due == windows_[pass_.pivot].y1;
        for (int64_t n = 0; n < pass_.node_count; ++n) until[n] = finished_ ? windows_[n].y1 : done[n];
        if (finished_) return true;
        until[pass_.pivot] = due;
        for (int64_t n = pass_.pivot; n >= 0; --n) {
            if (until[n] == windows_[n].y0) continue;
            for (const RowTerm* term = terms(n); term != terms_end(n); ++term) {
                const int64_t needed = std::min<int64_t>(term->read_until[until[n] - 1], windows_[term->parent].y1);
                until[term->parent] = std::max(until[term->parent], needed);
            }
        }
        return true;
    }

    // After the lines up to `until` are computed.
    void finish() {
        done = live = until;
        for (int64_t n = pass_.node_count - 1; n >= 0; --n) {
            // What a copied row is a copy of lives as long as the copy is read.
            const int64_t from = pass_.nodes[n].source ? live[n] : done[n];
            if (from == windows_[n].y1) continue;
            for (const RowTerm* term = terms(n); term != terms_end(n); ++term)
                live[term->parent] = std::min(
                    live[term->parent], std::max<int64_t>(term->read_from[from], windows_[term->parent].y0));
        }
    }

private:
    const RowTerm* terms(int64_t n) const { return pass_.nodes[n].terms; }
    const RowTerm* terms_end(int64_t n) const { return terms(n) + pass_.nodes[n].term_count; }

    const RowPass& pass_;
    const Rectangle* windows_;
    bool finished_ = false;
};

const Rectangle* windows_of(const RowPass& pass, int64_t block) {
    return pass.windows + (pass.one_window ? 0 : block * pass.node_count);
}

// How many rows of each node are held at a time, the longest line added: rings are filled line by line.
std::vector<int64_t> ring_sizes(const RowPass& pass, const Rectangle* windows) {
    std::vector<int64_t> held(pass.node_count), most(pass.node_count), longest(pass.node_count);
    Walk walk(pass, windows);
    while (walk.next()) {
        for (int64_t n = 0; n < pass.node_count; ++n) {
            if (pass.nodes[n].source) continue;
            for (int64_t y = walk.done[n]; y < walk.until[n]; ++y) {
                const int64_t rows = rows_of_line(pass.nodes[n], windows[n], y);
                held[n] += rows;
                longest[n] = std::max(longest[n], rows);
            }
            most[n] = std::max(most[n], held[n]);
        }
        const std::vector<int64_t> before = walk.live;
        walk.finish();
        for (int64_t n = 0; n < pass.node_count; ++n)
            if (!pass.nodes[n].source)
                for (int64_t y = before[n]; y < walk.live[n]; ++y) held[n] -= rows_of_line(pass.nodes[n], windows[n], y);
    }
    for (int64_t n = 0; n < pass.node_count; ++n) most[n] += longest[n];
    return most;
}

bool fuses(const RowTerm& term) { return term.weight && !term.row_scale && term.groups == 1; }

struct Ring {
    int64_t base, size, head;

    int64_t take(int64_t rows) {
        if (head + rows > size) head = 0;
        head += rows;
        return base + head - rows;
    }
};

// One thread at work on one block after another.
class Carrier {
public:
    Carrier(const RowPass& pass, const RowMemory& memory, int64_t stride, Isa isa)
        : pass_(pass), memory_(memory), stride_(stride), narrow_(pass.storage == Storage::bfloat16),
          combine_(combine_kernels_of(isa).combine[static_cast<int>(pass.storage)]),
          position_(gemm_kernels_of(isa), pass.storage, deepest(pass), longest(pass)), rings_(pass.node_count),
          begin_(longest(pass) + 1), sums_(narrow_ ? longest(pass) * stride : 0) {}

    // Multiply-adds so far.
    int64_t work() const { return work_; }

    void carry(int64_t block) {
        windows_ = windows_of(pass_, block);
        slices_ = pass_.slices + pass_.slice_offset[block];
        width_ = pass_.slice_offset[block + 1] - pass_.slice_offset[block];
        for (int64_t k = 0; k < width_; ++k) memory_.column[slices_[k]] = static_cast<int32_t>(k);
        int64_t base = 0, n = 0;
        for (const int64_t size : ring_sizes(pass_, windows_)) {
            rings_[n++] = {base, size, 0};
            base += size;
        }
        for (Walk walk(pass_, windows_); walk.next(); walk.finish())
            for (n = 0; n < pass_.node_count; ++n)
                for (int64_t y = walk.done[n]; y < walk.until[n]; ++y) compute_line(n, y);
        for (n = 0; n < pass_.node_count; ++n)
            for (int64_t y = windows_[n].y0; y < windows_[n].y1; ++y) forget_line(n, y);
        for (int64_t k = 0; k < width_; ++k) memory_.column[slices_[k]] = -1;
    }

private:
    static int64_t longest(const RowPass& pass) {
        int64_t most = 0;
        for (int64_t n = 0; n < pass.node_count; ++n) most = std::max(most, longest_position(pass.nodes[n].rows));
        return most;
    }

    static int64_t deepest(const RowPass& pass) {
        int64_t most = 0;
        for (int64_t n = 0; n < pass.node_count; ++n) {
            int64_t depth = 0;
            for (int64_t t = 0; t < pass.nodes[n].term_count; ++t) {
                const RowTerm& term = pass.nodes[n].terms[t];
                if (term.weight) depth += term.tap_count * longest_position(pass.nodes[term.parent].rows);
            }
            most = std::max(most, depth);
        }
        return most;
    }

    int64_t row_bytes() const { return stride_ * (narrow_ ? 2 : 4); }

    char* maps(int64_t place) const { return static_cast<char*>(memory_.maps) + place * row_bytes(); }

    // Where to make the float32 rows that begin at a place; what is narrower there is made beside it.
    float* made_at(int64_t place) { return narrow_ ? sums_.data() : reinterpret_cast<float*>(maps(place)); }

    void keep(const float* made, int64_t place) const {
        if (narrow_ && place >= 0) round_to_bfloat16(made, width_, reinterpret_cast<uint16_t*>(maps(place)));
    }

    void compute_line(int64_t n, int64_t y) {
        const RowNode& node = pass_.nodes[n];
        const Rectangle& window = windows_[n];
        const int64_t* offset = node.rows.offset + y * node.width;
        const int64_t first = offset[window.x0], rows = offset[window.x1] - first;
        if (rows == 0) return;
        if (!node.source) {
            const int64_t start = rings_[n].take(rows);
            int32_t* place = memory_.place + node.first + first;
            for (int64_t i = 0; i < rows; ++i) place[i] = static_cast<int32_t>(start + i);
            for (int64_t x = window.x0; x < window.x1; ++x) {
                if (offset[x] == offset[x + 1]) continue;
                if (n == pass_.seeds.node)
                    seed(node, {offset[x], offset[x + 1]});
                else
                    compute(node, y * node.width + x, {offset[x], offset[x + 1]});
            }
        }
        for (int64_t s = 0; s < pass_.sink_count; ++s)
            if (pass_.sinks[s].node == n) deliver(pass_.sinks[s], {first, first + rows});
    }

    void forget_line(int64_t n, int64_t y) {
        const int64_t* offset = pass_.nodes[n].rows.offset + y * pass_.nodes[n].width;
        int32_t* place = memory_.place + pass_.nodes[n].first;
        std::fill(place + offset[windows_[n].x0], place + offset[windows_[n].x1], -1);
    }

    void seed(const RowNode& node, Span rows) {
        for (int64_t r = rows.begin; r < rows.end; ++r) {
            int32_t& place = memory_.place[node.first + r];
            const int32_t slice = pass_.seeds.slice[r];
            const int32_t column = slice < 0 ? -1 : memory_.column[slice];
            if (column < 0) {
                place = -1;
                continue;
            }
            float* out = made_at(place);
            std::fill(out, out + width_, 0.0f);
            out[column] = pass_.seeds.value[r];
            keep(out, place);
        }
    }

    // The rows of one position; those that turn out to have no terms in this block are forgotten.
    void compute(const RowNode& node, int64_t q, Span rows) {
        float* out = made_at(memory_.place[node.first + rows.begin]);
        bool written = combine(node, rows, out);
        position_.clear();
        bool others = false;
        for (int64_t t = 0; t < node.term_count; ++t) {
            if (fuses(node.terms[t]))
                list(node.terms[t], q, 0);
            else
                others = others || node.terms[t].weight;
        }
        if (position_.depth()) {
            multiply(node.terms[fused_term(node)], node, rows, 0, written, out);
            written = true;
        }
        for (int64_t t = 0; others && t < node.term_count; ++t)
            if (node.terms[t].weight && !fuses(node.terms[t]))
                written = product(node, node.terms[t], q, rows, written, out);
        int32_t* place = memory_.place + node.first + rows.begin;
        if (!written) std::fill_n(place, rows.end - rows.begin, -1);
        for (int64_t m = 0; narrow_ && m < rows.end - rows.begin; ++m) keep(out + m * stride_, place[m]);
    }

    static int64_t fused_term(const RowNode& node) {
        int64_t t = 0;
        while (!fuses(node.terms[t])) ++t;
        return t;
    }

    // Writes the combinations' part of the rows; false where there is none, and nothing is written.
    bool combine(const RowNode& node, Span rows, float* out) {
        index_.clear();
        coefficient_.clear();
        bool products = false;
        for (int64_t t = 0; t < node.term_count; ++t) products = products || node.terms[t].weight;
        for (int64_t r = rows.begin; r < rows.end; ++r) {
            begin_[r - rows.begin] = static_cast<int64_t>(index_.size());
            for (int64_t t = 0; t < node.term_count; ++t) {
                const RowTerm& term = node.terms[t];
                if (term.weight) continue;
                for (int64_t j = term.offset[r]; j < term.offset[r + 1]; ++j) {
                    const int32_t place = memory_.place[term.index[j]];
                    if (place < 0) continue;
                    index_.push_back(place);
                    coefficient_.push_back(term.coefficient[j]);
                }
            }
        }
        if (index_.empty()) return false;
        work_ += static_cast<int64_t>(index_.size()) * width_;
        const int64_t count = rows.end - rows.begin;
        begin_[count] = static_cast<int64_t>(index_.size());
        for (int64_t m = 0; m < count; ++m) {
            int32_t& place = memory_.place[node.first + rows.begin + m];
            const int64_t terms = begin_[m + 1] - begin_[m];
            if (terms || products)
                combine_(static_cast<const char*>(memory_.maps), row_bytes(), index_.data() + begin_[m],
                         coefficient_.data() + begin_[m], terms, width_, false, out + m * stride_);
            else
                place = -1;
        }
        return true;
    }

    // Gathers what a product's group reads for position q.
    void list(const RowTerm& term, int64_t q, int64_t group) {
        const RowNode& parent = pass_.nodes[term.parent];
        const int64_t in_width = term.in_channels / term.groups, out_width = term.out_channels / term.groups;
        for (int64_t t = 0; t < term.tap_count; ++t) {
            const int64_t p = term.taps[q * term.tap_count + t];
            if (p < 0) continue;
            Span rows = {parent.rows.offset[p], parent.rows.offset[p + 1]};
            if (term.groups > 1) rows = in_group(parent.rows, rows, group * in_width, (group + 1) * in_width);
            const float* weight = term.weight + t * term.in_channels * out_width;
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                const int32_t place = memory_.place[parent.source ? parent.source[i] : parent.first + i];
                if (place >= 0) position_.add(weight + parent.rows.channel[i] * out_width, maps(place));
            }
        }
    }

    void multiply(const RowTerm& term, const RowNode& node, Span rows, int64_t group, bool accumulate, float* out) {
        const int64_t out_width = term.out_channels / term.groups;
        work_ += position_.depth() * (rows.end - rows.begin) * width_;
        position_.multiply(node.rows.channel + rows.begin, group * out_width, rows.end - rows.begin, out_width, width_,
                           term.row_scale ? term.row_scale + rows.begin : nullptr, accumulate, out, stride_);
    }

    // A product with groups or a scale; whether the rows are written now.
    bool product(const RowNode& node, const RowTerm& term, int64_t q, Span rows, bool written, float* out) {
        const int64_t out_width = term.out_channels / term.groups;
        for (int64_t group = 0; group < term.groups; ++group) {
            const Span mine = in_group(node.rows, rows, group * out_width, (group + 1) * out_width);
            if (mine.begin == mine.end) continue;
            position_.clear();
            list(term, q, group);
            if (!position_.depth()) continue;
            // Rows of other groups may get nothing.
            if (!written)
                for (int64_t m = 0; m < rows.end - rows.begin; ++m) std::fill_n(out + m * stride_, width_, 0.0f);
            written = true;
            multiply(term, node, mine, group, true, out + (mine.begin - rows.begin) * stride_);
        }
        return written;
    }

    void deliver(const RowSink& sink, Span rows) {
        slot_.clear();
        source_.clear();
        for (int64_t r = rows.begin; r < rows.end; ++r) {
            const int32_t place = memory_.place[pass_.nodes[sink.node].first + r];
            if (sink.slot[r] < 0 || place < 0) continue;
            slot_.push_back(sink.slot[r]);
            source_.push_back(reinterpret_cast<const float*>(maps(place)));
        }
        if (narrow_) {
            wide_.resize(std::max<size_t>(wide_.size(), source_.size() * width_));
            for (size_t i = 0; i < source_.size(); ++i) {
                widen(reinterpret_cast<const uint16_t*>(source_[i]), width_, wide_.data() + i * width_);
                source_[i] = wide_.data() + i * width_;
            }
        }
        if (sink.transposed)
            deliver_columns(sink);
        else if (sink.origin)
            deliver_windows(sink);
        else
            deliver_rows(sink);
    }

    void deliver_rows(const RowSink& sink) {
        for (size_t i = 0; i < slot_.size(); ++i) {
            float* to = sink.result + slot_[i] * sink.columns;
            for (int64_t k = 0; k < width_; ++k)
                to[slices_[k]] = sink.accumulate ? to[slices_[k]] + source_[i][k] : source_[i][k];
        }
    }

    void deliver_windows(const RowSink& sink) {
        const Rectangle& tile = windows_[pass_.seeds.node];
        for (size_t i = 0; i < slot_.size(); ++i) {
            const int64_t top = sink.origin[2 * slot_[i]], left = sink.origin[2 * slot_[i] + 1];
            const int64_t x0 = std::max(tile.x0, left), x1 = std::min(tile.x1, left + sink.window_width);
            const int64_t y0 = std::max(tile.y0, top), y1 = std::min(tile.y1, top + sink.window_height);
            if (x0 >= x1) continue;
            for (int64_t y = y0; y < y1; ++y) {
                const float* from = source_[i] + (y - tile.y0) * (tile.x1 - tile.x0) + x0 - tile.x0;
                float* to = sink.result + (slot_[i] * sink.window_height + y - top) * sink.window_width + x0 - left;
                if (sink.accumulate)
                    for (int64_t x = 0; x < x1 - x0; ++x) to[x] += from[x];
                else
                    std::memcpy(to, from, (x1 - x0) * sizeof(float));
            }
        }
    }

    void deliver_columns(const RowSink& sink) {
        const int64_t size = sink.origin ? sink.window_height * sink.window_width : sink.columns;
        for (int64_t k = 0; k < width_; ++k) {
            float* to = sink.result + slices_[k] * size;
            if (!sink.origin) {
                for (size_t i = 0; i < slot_.size(); ++i) to[slot_[i]] = source_[i][k];
                continue;
            }
            for (size_t i = 0; i < slot_.size(); ++i) {
                const int64_t y = slot_[i] / sink.image_width - sink.origin[2 * slices_[k]];
                const int64_t x = slot_[i] % sink.image_width - sink.origin[2 * slices_[k] + 1];
                if (y >= 0 && y < sink.window_height && x >= 0 && x < sink.window_width)
                    to[y * sink.window_width + x] = source_[i][k];
            }
        }
    }

    const RowPass& pass_;
    const RowMemory& memory_;
    const int64_t stride_;
    const bool narrow_;
    void (*combine_)(const char*, int64_t, const int32_t*, const float*, int64_t, int64_t, bool, float*);
    Position position_;
    std::vector<Ring> rings_;
    const Rectangle* windows_ = nullptr;
    const int32_t* slices_ = nullptr;
    int64_t width_ = 0;
    int64_t work_ = 0;
    std::vector<int64_t> begin_;  // of each row's terms
    std::vector<float> sums_;     // float32 image of one position's bfloat16 rows
    std::vector<float> wide_;     // of the rows that are delivered
    std::vector<int32_t> index_;
    std::vector<float> coefficient_;
    std::vector<int64_t> slot_;
    std::vector<const float*> source_;
};

}  // namespace

int64_t row_pass_rows(const RowPass& pass) {
    int64_t most = 0;
    for (int64_t block = 0; block < (pass.one_window ? 1 : pass.blocks); ++block) {
        int64_t rows = 0;
        for (const int64_t size : ring_sizes(pass, windows_of(pass, block))) rows += size;
        most = std::max(most, rows);
    }
    return most;
}

int64_t run_row_pass(const RowPass& pass, int64_t first, int64_t last, const RowMemory* memory, int64_t stride,
                     Isa isa, int threads) {
    std::vector<Carrier> carriers;
    for (int t = 0; t < std::min<int64_t>(threads, last - first); ++t)
        carriers.emplace_back(pass, memory[t], stride, isa);
    parallel_for(static_cast<int>(carriers.size()), last - first, [&](int thread, int64_t begin, int64_t end) {
        for (int64_t block = first + begin; block < first + end; ++block) carriers[thread].carry(block);
    });
    int64_t work = 0;
    for (const Carrier& carrier : carriers) work += carrier.work();
    return work;
}

}  // namespace fwdkern
