// A convolutional LSTM over the pixels of an image in raster order, and its backward pass.
//
// Row LSTM and Diagonal BiLSTM are the same recurrence over different neighbours. Each pixel reads
// the hidden state of a few earlier ones (its taps) and the cell state of one:
//
//   Row LSTM                  taps (-1, -k/2) ... (-1, +k/2)    cell (-1, 0)
//   Diagonal, left to right   taps (0, -1), (-1, 0)             cell (0, -1)
//   Diagonal, right to left   taps (0, +1), (-1, 0)             cell (0, +1), columns backwards
//
// so that no map has to be skewed: the raster order respects both. Images are independent. A block
// of them goes through a pixel together, which keeps the weights in the first-level cache and every
// accumulator in a register; blocks and directions are spread over the threads.
//
// Layouts, with V lanes a vector and hp = hidden, rounded up to a multiple of V and of 4:
//   gates      (N, H, W, directions, 4, hidden)   input-to-state map, in the order o, f, i, g
//   weight     (directions, taps, hidden, 4 hidden)
//   initial    (directions, 2, L, hidden)         h and c; L = W for the Row LSTM, H for the other
//   states     (blocks, directions, 2, H + 1, W + 2 border, BLOCK, hp)   h and c, with a border
//   activations(blocks, directions, H, W, BLOCK, 4, hp), or those of one pixel without a backward pass

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/cpu/vec/vec.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

namespace {

constexpr int64_t BLOCK = 8;  // images that go through a pixel together
constexpr int64_t FOUR = 4;   // of them at a time, so that 4 gates x 4 images stay in registers

template <typename T>
using Vec = at::vec::Vectorized<T>;

template <typename T>
inline Vec<T> sigmoid(const Vec<T>& x) {
  return Vec<T>(1) / (Vec<T>(1) + x.neg().exp_u20());
}

// tanh(x) = 2 sigmoid(2 x) - 1: one exponential, exact to an absolute 1e-7 in float32.
template <typename T>
inline Vec<T> hyperbolic_tangent(const Vec<T>& x) {
  return Vec<T>(2) * sigmoid(Vec<T>(2) * x) - Vec<T>(1);
}

struct Tap {
  int64_t row, column;
};

struct Geometry {
  int64_t images, height, width, directions, hidden, lanes, kernel;  // kernel 0: diagonal
  bool diagonal() const { return kernel == 0; }
  int64_t border() const { return diagonal() ? 1 : kernel / 2; }
  // The backward pass takes units by vectors and by fours, and both have to divide it.
  constexpr int64_t padded() const {
    const int64_t step = std::max<int64_t>(lanes, 4);
    return (hidden + step - 1) / step * step;
  }
  // How many of the units of a vector from `unit` on are real, not padding.
  int64_t count(int64_t unit) const { return std::clamp<int64_t>(hidden - unit, 0, lanes); }
  int64_t blocks() const { return (images + BLOCK - 1) / BLOCK; }
  int64_t num_taps() const { return diagonal() ? 2 : kernel; }
  int64_t pitch() const { return width + 2 * border(); }  // pixels of a row with its border
  int64_t pixel() const { return BLOCK * padded(); }      // numbers a pixel of one state
  int64_t plane() const { return (height + 1) * pitch() * pixel(); }
  int64_t initials() const { return diagonal() ? height : width; }

  std::vector<Tap> taps(int64_t direction) const {
    if (diagonal()) return {{0, direction == 0 ? -1 : 1}, {-1, 0}};
    std::vector<Tap> row;
    for (int64_t k = 0; k < kernel; ++k) row.push_back({-1, k - kernel / 2});
    return row;
  }
  Tap cell(int64_t direction) const {
    return diagonal() ? taps(direction)[0] : Tap{-1, 0};
  }
  // Where the state of pixel (row, column) starts; row -1 and a border of columns exist.
  int64_t at(int64_t row, int64_t column) const {
    return ((row + 1) * pitch() + column + border()) * pixel();
  }
  int64_t column(int64_t direction, int64_t step) const {
    return direction == 0 ? step : width - 1 - step;
  }
  // The border pixel that holds entry i of the learned initial state.
  int64_t initial(int64_t direction, int64_t i) const {
    if (!diagonal()) return at(-1, i);
    return at(i, direction == 0 ? -1 : width);
  }
};

// Two lanes, as of doubles on some ARM: no test elsewhere runs with so few.
static_assert(Geometry{1, 1, 1, 1, 5, 2, 0}.padded() == 8);

// Weights in the order in which the forward pass reads them: (taps, hidden, hp / V, 4, V).
template <typename T>
std::vector<T> pack_forward(const T* weight, const Geometry& g) {
  const int64_t hp = g.padded(), V = g.lanes;
  std::vector<T> packed(g.num_taps() * g.hidden * 4 * hp, T(0));
  for (int64_t k = 0; k < g.num_taps() * g.hidden; ++k)
    for (int64_t gate = 0; gate < 4; ++gate)
      for (int64_t j = 0; j < g.hidden; ++j)
        packed[((k * (hp / V) + j / V) * 4 + gate) * V + j % V] =
            weight[(k * 4 + gate) * g.hidden + j];
  return packed;
}

// And transposed, for the backward pass: (taps, 4, hidden, hp), the last index being the input's.
template <typename T>
std::vector<T> pack_backward(const T* weight, const Geometry& g) {
  const int64_t hp = g.padded();
  std::vector<T> packed(g.num_taps() * 4 * g.hidden * hp, T(0));
  for (int64_t tap = 0; tap < g.num_taps(); ++tap)
    for (int64_t k = 0; k < g.hidden; ++k)
      for (int64_t gate = 0; gate < 4; ++gate)
        for (int64_t j = 0; j < g.hidden; ++j)
          packed[((tap * 4 + gate) * g.hidden + j) * hp + k] =
              weight[((tap * g.hidden + k) * 4 + gate) * g.hidden + j];
  return packed;
}

// Pixel (row, column) of FOUR images of a block, first to last unit: eq 3 of the paper.
template <typename T>
void forward_pixel(const Geometry& g, const T* const gates[FOUR], const T* packed,
                   const int64_t* taps, int64_t cell, T* h, T* c, T* activations) {
  const int64_t hp = g.padded(), V = g.lanes;
  for (int64_t chunk = 0; chunk < hp / V; ++chunk) {
    const int64_t unit = chunk * V, count = g.count(unit);
    Vec<T> sum[FOUR][4];
#pragma GCC unroll 4
    for (int b = 0; b < FOUR; ++b)
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; ++gate) {
        const T* from = gates[b] + gate * g.hidden + unit;
        sum[b][gate] = count == V ? Vec<T>::loadu(from) : Vec<T>::loadu(from, count);
      }
    const T* weight = packed + chunk * 4 * V;
    for (int64_t tap = 0; tap < g.num_taps(); ++tap) {
      const T* state = h + taps[tap];
      for (int64_t k = 0; k < g.hidden; ++k, weight += 4 * hp) {
        Vec<T> w[4];
#pragma GCC unroll 4
        for (int gate = 0; gate < 4; ++gate) w[gate] = Vec<T>::loadu(weight + gate * V);
#pragma GCC unroll 4
        for (int b = 0; b < FOUR; ++b) {
          const Vec<T> from(state[b * hp + k]);
#pragma GCC unroll 4
          for (int gate = 0; gate < 4; ++gate)
            sum[b][gate] = at::vec::fmadd(from, w[gate], sum[b][gate]);
        }
      }
    }
#pragma GCC unroll 4
    for (int b = 0; b < FOUR; ++b) {
      const Vec<T> o = sigmoid(sum[b][0]), f = sigmoid(sum[b][1]), i = sigmoid(sum[b][2]);
      const Vec<T> content = hyperbolic_tangent(sum[b][3]);
      const Vec<T> next = f * Vec<T>::loadu(c + cell + b * hp + unit) + i * content;
      next.store(c + b * hp + unit);
      (o * hyperbolic_tangent(next)).store(h + b * hp + unit);
      T* kept = activations + b * 4 * hp + unit;
      o.store(kept);
      f.store(kept + hp);
      i.store(kept + 2 * hp);
      content.store(kept + 3 * hp);
    }
  }
}

template <typename T>
void forward_block(const Geometry& g, int64_t block, int64_t direction, const T* gates,
                   const std::vector<T>& packed, const T* initial, T* states, T* activations,
                   int64_t kept_pixels) {
  const int64_t hp = g.padded();
  T *h = states, *c = states + g.plane();
  std::fill(states, states + 2 * g.plane(), T(0));
  for (int64_t i = 0; i < g.initials(); ++i)
    for (int64_t b = 0; b < BLOCK; ++b) {
      const T* from = initial + i * g.hidden;
      std::copy_n(from, g.hidden, h + g.initial(direction, i) + b * hp);
      std::copy_n(from + g.initials() * g.hidden, g.hidden, c + g.initial(direction, i) + b * hp);
    }
  std::vector<int64_t> taps;
  for (const Tap& tap : g.taps(direction))
    taps.push_back((tap.row * g.pitch() + tap.column) * g.pixel());
  const Tap cell = g.cell(direction);
  const int64_t from_cell = (cell.row * g.pitch() + cell.column) * g.pixel();
  const int64_t stride = g.directions * 4 * g.hidden;
  for (int64_t row = 0; row < g.height; ++row)
    for (int64_t step = 0; step < g.width; ++step) {
      const int64_t column = g.column(direction, step);
      for (int64_t first = 0; first < BLOCK; first += FOUR) {
        const T* rows[FOUR];
        for (int64_t b = 0; b < FOUR; ++b) {
          // The last block may be short: its spare lanes repeat the last image.
          const int64_t n = std::min(block * BLOCK + first + b, g.images - 1);
          rows[b] = gates + ((n * g.height + row) * g.width + column) * stride +
                    direction * 4 * g.hidden;
        }
        const int64_t here = g.at(row, column) + first * hp;
        forward_pixel(g, rows, packed.data(), taps.data(), from_cell, h + here, c + here,
                      activations + ((row * g.width + column) % kept_pixels * BLOCK + first) * 4 * hp);
      }
    }
}

// What the backward pass of one block and direction works with.
template <typename T>
struct Backward {
  const Geometry& g;
  const int64_t direction;
  const std::vector<Tap> taps;
  const Tap cell;
  // d loss / d (input of the gates), two rows: this one and the next, with a border of zeros.
  std::vector<T> errors;
  // d loss / d c through the next cell, two rows alike.
  std::vector<T> cells;

  Backward(const Geometry& geometry, int64_t direction_)
      : g(geometry),
        direction(direction_),
        taps(geometry.taps(direction_)),
        cell(geometry.cell(direction_)),
        errors(2 * geometry.pitch() * geometry.pixel() * 4, T(0)),
        cells(2 * geometry.pitch() * geometry.pixel(), T(0)) {}

  int64_t slot(int64_t row, int64_t column) const {
    return ((row & 1) * g.pitch() + column + g.border()) * g.pixel();
  }

  // Through the state-to-state weights: what the users of the state at (row, column) send back,
  // for BLOCK images and V units from `unit` on. Taps of the same row come from `errors` as well.
  void gather(int64_t row, int64_t column, const T* packed, int64_t unit, Vec<T> sum[BLOCK]) {
    const int64_t hp = g.padded(), h = g.hidden;
    for (size_t tap = 0; tap < taps.size(); ++tap) {
      const int64_t user_row = row - taps[tap].row, user_column = column - taps[tap].column;
      if (user_row >= g.height || user_row < 0 || user_column < 0 || user_column >= g.width)
        continue;
      const T* from = errors.data() + 4 * slot(user_row, user_column);
      for (int64_t gate = 0; gate < 4; ++gate) {
        const T* weight = packed + (tap * 4 + gate) * h * hp + unit;
        for (int64_t j = 0; j < h; ++j) {
          const Vec<T> w = Vec<T>::loadu(weight + j * hp);
#pragma GCC unroll 8
          for (int b = 0; b < BLOCK; ++b)
            sum[b] = at::vec::fmadd(Vec<T>(from[(b * 4 + gate) * hp + j]), w, sum[b]);
        }
      }
    }
  }

  // The gradient that the cell at (row, column) gets from the one that reads it.
  const T* cell_error(int64_t row, int64_t column) const {
    const int64_t user_row = row - cell.row, user_column = column - cell.column;
    const bool inside = user_row >= 0 && user_row < g.height && user_column >= 0 &&
                        user_column < g.width;
    return inside ? cells.data() + slot(user_row, user_column) : nullptr;
  }
};

// sums(taps, hp, 4, hp) += h_tap^T errors, over one row of pixels and the images of a block.
template <typename T>
void weight_gradient(const Backward<T>& work, int64_t row, const T* h, std::vector<T>& sums) {
  const Geometry& g = work.g;
  const int64_t hp = g.padded(), V = g.lanes, width = 4 * hp;
  for (size_t tap = 0; tap < work.taps.size(); ++tap) {
    const int64_t source = g.at(row + work.taps[tap].row, work.taps[tap].column);
    for (int64_t k = 0; k < hp; k += 4)
      for (int64_t j = 0; j < width; j += 4 * V) {
        Vec<T> sum[4][4];
        T* to = sums.data() + (tap * hp + k) * width + j;
#pragma GCC unroll 4
        for (int a = 0; a < 4; ++a)
#pragma GCC unroll 4
          for (int b = 0; b < 4; ++b) sum[a][b] = Vec<T>::loadu(to + a * width + b * V);
        const T* state = h + source + k;
        const T* error = work.errors.data() + 4 * work.slot(row, 0) + j;
        for (int64_t i = 0; i < g.width * BLOCK; ++i, state += hp, error += width) {
          Vec<T> e[4];
#pragma GCC unroll 4
          for (int b = 0; b < 4; ++b) e[b] = Vec<T>::loadu(error + b * V);
#pragma GCC unroll 4
          for (int a = 0; a < 4; ++a) {
            const Vec<T> s(state[a]);
#pragma GCC unroll 4
            for (int b = 0; b < 4; ++b) sum[a][b] = at::vec::fmadd(s, e[b], sum[a][b]);
          }
        }
#pragma GCC unroll 4
        for (int a = 0; a < 4; ++a)
#pragma GCC unroll 4
          for (int b = 0; b < 4; ++b) sum[a][b].store(to + a * width + b * V);
      }
  }
}

template <typename T>
void backward_block(const Geometry& g, int64_t block, int64_t direction, const T* grad,
                    const std::vector<T>& packed, const T* states, const T* activations,
                    T* grad_gates, T* grad_initial, std::vector<T>& weight_sums) {
  const int64_t hp = g.padded(), V = g.lanes, hidden = g.hidden;
  const T *h = states, *c = states + g.plane();
  Backward<T> work(g, direction);
  const int64_t from_cell = (work.cell.row * g.pitch() + work.cell.column) * g.pixel();
  const int64_t images = std::min(BLOCK, g.images - block * BLOCK);
  // The right-to-left map is shifted down by one row before it is added to the other.
  const int64_t shift = g.diagonal() && direction == 1 ? 1 : 0;
  const int64_t stride = g.directions * 4 * hidden;
  for (int64_t row = g.height - 1; row >= 0; --row) {
    for (int64_t step = g.width - 1; step >= 0; --step) {
      const int64_t column = g.column(direction, step);
      const T* later = work.cell_error(row, column);
      for (int64_t unit = 0; unit < hp; unit += V) {
        const int64_t count = g.count(unit);
        Vec<T> dh[BLOCK];
#pragma GCC unroll 8
        for (int b = 0; b < BLOCK; ++b) {
          const int64_t n = block * BLOCK + b;
          const bool real = b < images && row + shift < g.height;
          dh[b] = real ? Vec<T>::loadu(grad + ((n * g.height + row + shift) * g.width + column) *
                                                  hidden + unit, count)
                       : Vec<T>(0);
        }
        work.gather(row, column, packed.data(), unit, dh);
#pragma GCC unroll 8
        for (int b = 0; b < BLOCK; ++b) {
          const int64_t here = g.at(row, column) + b * hp + unit;
          const T* kept = activations + ((row * g.width + column) * BLOCK + b) * 4 * hp + unit;
          const Vec<T> o = Vec<T>::loadu(kept), f = Vec<T>::loadu(kept + hp),
                       i = Vec<T>::loadu(kept + 2 * hp), content = Vec<T>::loadu(kept + 3 * hp);
          const Vec<T> one(1), tanh_c = hyperbolic_tangent(Vec<T>::loadu(c + here));
          Vec<T> dc = dh[b] * o * (one - tanh_c * tanh_c);
          if (later != nullptr) dc = dc + Vec<T>::loadu(later + b * hp + unit);
          const Vec<T> before = Vec<T>::loadu(c + here + from_cell);
          const Vec<T> error[4] = {dh[b] * tanh_c * o * (one - o), dc * before * f * (one - f),
                                   dc * content * i * (one - i), dc * i * (one - content * content)};
          (dc * f).store(work.cells.data() + work.slot(row, column) + b * hp + unit);
          T* to = work.errors.data() + 4 * (work.slot(row, column) + b * hp) + unit;
          T* out = grad_gates + ((block * BLOCK + b) * g.height + row) * g.width * stride +
                   column * stride + direction * 4 * hidden + unit;
          for (int gate = 0; gate < 4; ++gate) {
            error[gate].store(to + gate * hp);
            if (b < images) error[gate].store(out + gate * hidden, count);
          }
        }
      }
    }
    weight_gradient(work, row, h, weight_sums);
    // Entries of the initial state whose users are all done.
    const bool last = row == 0;
    for (int64_t entry = 0; entry < g.initials(); ++entry) {
      if (g.diagonal() ? entry != row : !last) continue;
      const int64_t at_row = g.diagonal() ? row : -1;
      const int64_t at_column = g.diagonal() ? (direction == 0 ? -1 : g.width) : entry;
      const T* later = work.cell_error(at_row, at_column);
      for (int64_t unit = 0; unit < hp; unit += V) {
        const int64_t count = g.count(unit);
        Vec<T> dh[BLOCK];
        for (int64_t b = 0; b < BLOCK; ++b) dh[b] = Vec<T>(0);
        work.gather(at_row, at_column, packed.data(), unit, dh);
        Vec<T> sum_h(0), sum_c(0);
        for (int64_t b = 0; b < BLOCK; ++b) {
          sum_h = sum_h + dh[b];
          sum_c = sum_c + Vec<T>::loadu(later + b * hp + unit);
        }
        sum_h.store(grad_initial + entry * hidden + unit, count);
        sum_c.store(grad_initial + (g.initials() + entry) * hidden + unit, count);
      }
    }
  }
}

// Of a map (N, H, W, ..., h) and the weight (directions, taps, h, 4h).
Geometry geometry_of(const at::Tensor& map, const at::Tensor& weight, int64_t kernel) {
  const int64_t lanes = map.scalar_type() == at::kDouble ? Vec<double>::size() : Vec<float>::size();
  return {map.size(0), map.size(1), map.size(2), weight.size(0), map.size(-1), lanes, kernel};
}

// Returns the summed map (N, H, W, h), and what the backward pass needs, if there will be one.
std::tuple<at::Tensor, at::Tensor, at::Tensor> forward(const at::Tensor& gates,
                                                       const at::Tensor& weight,
                                                       const at::Tensor& initial, int64_t kernel,
                                                       bool keep) {
  TORCH_CHECK(gates.dim() == 6 && gates.size(3) == weight.size(0) && gates.size(4) == 4,
              "gates must be (N, H, W, directions, 4, h), got ", gates.sizes());
  const Geometry g = geometry_of(gates, weight, kernel);
  const int64_t hp = g.padded();
  TORCH_CHECK(weight.sizes() == at::IntArrayRef({g.directions, g.num_taps(), g.hidden, 4 * g.hidden}),
              "weight must be (directions, taps, h, 4h), got ", weight.sizes());
  TORCH_CHECK(initial.sizes() == at::IntArrayRef({g.directions, 2, g.initials(), g.hidden}),
              "initial must be (directions, 2, L, h) for an L of ", g.initials(), ", got ",
              initial.sizes());
  at::Tensor out = at::empty({g.images, g.height, g.width, g.hidden}, gates.options());
  at::Tensor states = at::empty({g.blocks(), g.directions, 2 * g.plane()}, gates.options());
  const int64_t kept_pixels = keep ? g.height * g.width : 1;
  at::Tensor activations =
      at::empty({g.blocks(), g.directions, kept_pixels * BLOCK * 4 * hp}, gates.options());
  AT_DISPATCH_FLOATING_TYPES(gates.scalar_type(), "lstm_scan", [&] {
    using T = scalar_t;
    std::vector<std::vector<T>> packed;
    for (int64_t d = 0; d < g.directions; ++d)
      packed.push_back(pack_forward(weight[d].const_data_ptr<T>(), g));
    T *state = states.mutable_data_ptr<T>(), *kept = activations.mutable_data_ptr<T>();
    at::parallel_for(0, g.blocks() * g.directions, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task)
        forward_block(g, task / g.directions, task % g.directions, gates.const_data_ptr<T>(),
                      packed[task % g.directions],
                      initial[task % g.directions].const_data_ptr<T>(), state + task * 2 * g.plane(),
                      kept + task * kept_pixels * BLOCK * 4 * hp, kept_pixels);
    });
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, g.images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        for (int64_t row = 0; row < g.height; ++row)
          for (int64_t column = 0; column < g.width; ++column) {
            T* pixel = to + ((n * g.height + row) * g.width + column) * g.hidden;
            const T* first = state + n / BLOCK * g.directions * 2 * g.plane() + n % BLOCK * hp;
            const T* left = first + g.at(row, column);
            for (int64_t k = 0; k < g.hidden; ++k) pixel[k] = left[k];
            if (!g.diagonal() || row == 0) continue;
            const T* right = first + 2 * g.plane() + g.at(row - 1, column);
            for (int64_t k = 0; k < g.hidden; ++k) pixel[k] += right[k];
          }
    });
  });
  return {out, states, activations};
}

// Gradients of the gates, the weight and the initial states from that of the map, (N, H, W, h).
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad,
                                                        const at::Tensor& weight,
                                                        const at::Tensor& states,
                                                        const at::Tensor& activations,
                                                        int64_t kernel) {
  const Geometry g = geometry_of(grad, weight, kernel);
  const int64_t hp = g.padded();
  at::Tensor grad_gates =
      at::empty({g.images, g.height, g.width, g.directions, 4, g.hidden}, grad.options());
  at::Tensor grad_initial =
      at::zeros({g.blocks(), g.directions, 2, g.initials(), g.hidden}, grad.options());
  at::Tensor grad_weight = at::zeros(
      {g.blocks(), g.directions, g.num_taps(), hp, 4, hp}, grad.options());
  AT_DISPATCH_FLOATING_TYPES(grad.scalar_type(), "lstm_scan_backward", [&] {
    using T = scalar_t;
    std::vector<std::vector<T>> packed;
    for (int64_t d = 0; d < g.directions; ++d)
      packed.push_back(pack_backward(weight[d].const_data_ptr<T>(), g));
    T *to_initial = grad_initial.mutable_data_ptr<T>(), *to_weight = grad_weight.mutable_data_ptr<T>();
    const int64_t initials = 2 * g.initials() * g.hidden, weights = g.num_taps() * hp * 4 * hp;
    at::parallel_for(0, g.blocks() * g.directions, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        std::vector<T> sums(weights, T(0));
        backward_block(g, task / g.directions, task % g.directions, grad.const_data_ptr<T>(),
                       packed[task % g.directions],
                       states.const_data_ptr<T>() + task * 2 * g.plane(),
                       activations.const_data_ptr<T>() + task * g.height * g.width * BLOCK * 4 * hp,
                       grad_gates.mutable_data_ptr<T>(), to_initial + task * initials, sums);
        std::copy(sums.begin(), sums.end(), to_weight + task * weights);
      }
    });
  });
  // One sum for each block, added in a fixed order: the result does not depend on the threads.
  grad_weight = grad_weight.sum(0).narrow(2, 0, g.hidden).narrow(4, 0, g.hidden);
  return {grad_gates, grad_weight.flatten(3), grad_initial.sum(0)};
}

}  // namespace

TORCH_LIBRARY(nvp_scan, library) {
  library.def("forward(Tensor gates, Tensor weight, Tensor initial, int kernel, bool keep)"
              " -> (Tensor, Tensor, Tensor)");
  library.def("backward(Tensor grad, Tensor weight, Tensor states, Tensor activations, int kernel)"
              " -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(nvp_scan, CPU, library) {
  library.impl("forward", &forward);
  library.impl("backward", &backward);
}
