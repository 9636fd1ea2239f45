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
// of them goes through a pixel together, so that a tap is a matrix product. Taps of the row above
// are one product for a whole row. Blocks and directions are spread over the threads.
//
// Numbers are float32, float64, or bfloat16 on a processor with a unit for bfloat16 matrices. There
// maps, hidden states and weights are bfloat16; sums, gates and cell states are float32.
//
// Layouts, with V lanes a vector and hp = hidden, rounded up to a multiple of V and of 4:
//   gates      (N, H, W, directions, 4, hidden)   input-to-state map, in the order o, f, i, g
//   weight     (directions, taps, hidden, 4 hidden)
//   initial    (directions, 2, L, hidden)         h and c; L = W for the Row LSTM, H for the other
//   h, c       (blocks, directions, H + 1, W + 2 border, BLOCK, hp)   with a border
//   activations(blocks, directions, H, W, BLOCK, 4, hp), or those of one row without a backward pass

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

constexpr int64_t BLOCK = 8;  // images that go through a pixel together

template <typename T>
using Vec = at::vec::Vectorized<T>;

// What products of S are summed in: float for bfloat16, else S itself.
template <typename S>
using Sum = at::opmath_type<S>;

template <typename S>
constexpr bool TILES = std::is_same_v<S, at::BFloat16>;

// The fast exponential turns nan into a number. A ruined state must stay nan, so that it is found.
template <typename T>
inline Vec<T> sigmoid(const Vec<T>& x) {
  return Vec<T>::blendv(Vec<T>(1) / (Vec<T>(1) + x.neg().exp_u20()), x, x.isnan());
}

// tanh(x) = 2 sigmoid(2 x) - 1: one exponential, exact to an absolute 2e-7 in float32.
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
  // Products take units by vectors and by fours, and both have to divide it.
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
  int64_t matrix() const { return padded() * 4 * padded(); }  // numbers of a tap's weight
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
  Tap initial(int64_t direction, int64_t i) const {
    if (!diagonal()) return {-1, i};
    return {i, direction == 0 ? -1 : width};
  }
};

// Two lanes, as of doubles on some ARM: no test elsewhere runs with so few.
static_assert(Geometry{1, 1, 1, 1, 5, 2, 0}.padded() == 8);

// The weight of each direction, a matrix (hp, 4 hp) for each tap, or transposed for the backward pass.
// Right factors of tiles have their rows in pairs, (rows / 2, columns, 2).
template <typename S>
std::vector<std::vector<S>> pack(const at::Tensor& weight, const Geometry& g, bool transposed) {
  const int64_t hp = g.padded(), columns = transposed ? hp : 4 * hp;
  std::vector<std::vector<S>> packed(g.directions, std::vector<S>(g.num_taps() * g.matrix(), S(0)));
  const Sum<S>* from = weight.const_data_ptr<Sum<S>>();
  for (std::vector<S>& direction : packed)
    for (int64_t tap = 0; tap < g.num_taps(); ++tap)
      for (int64_t k = 0; k < g.hidden; ++k)
        for (int64_t gate = 0; gate < 4; ++gate)
          for (int64_t j = 0; j < g.hidden; ++j) {
            const int64_t row = transposed ? gate * hp + j : k;
            const int64_t column = transposed ? k : gate * hp + j;
            const int64_t place = TILES<S> ? (row / 2 * columns + column) * 2 + row % 2
                                           : row * columns + column;
            direction[tap * g.matrix() + place] = *from++;
          }
  return packed;
}

// C (M, N) = A (M, K) B (K, N), or += with `add`; B and C row by row. Entry (m, k) of A stands at
// m row + k column. ROWS x VECTORS sums stay in registers.
template <int ROWS, int VECTORS, typename T>
void multiply_in_registers(int64_t M, int64_t N, int64_t K, const T* A, int64_t row, int64_t column,
                           const T* B, T* C, bool add) {
  constexpr int64_t V = Vec<T>::size();
  for (int64_t n = 0; n < N; n += VECTORS * V)
    for (int64_t m = 0; m < M; m += ROWS) {
      Vec<T> sum[ROWS][VECTORS];
      T* to = C + m * N + n;
#pragma GCC unroll 8
      for (int a = 0; a < ROWS; ++a)
#pragma GCC unroll 4
        for (int b = 0; b < VECTORS; ++b)
          sum[a][b] = add ? Vec<T>::loadu(to + a * N + b * V) : Vec<T>(0);
      const T *left = A + m * row, *right = B + n;
      for (int64_t k = 0; k < K; ++k, left += column, right += N) {
        Vec<T> w[VECTORS];
#pragma GCC unroll 4
        for (int b = 0; b < VECTORS; ++b) w[b] = Vec<T>::loadu(right + b * V);
#pragma GCC unroll 8
        for (int a = 0; a < ROWS; ++a) {
          const Vec<T> from(left[a * row]);
#pragma GCC unroll 4
          for (int b = 0; b < VECTORS; ++b) sum[a][b] = at::vec::fmadd(from, w[b], sum[a][b]);
        }
      }
#pragma GCC unroll 8
      for (int a = 0; a < ROWS; ++a)
#pragma GCC unroll 4
        for (int b = 0; b < VECTORS; ++b) sum[a][b].store(to + a * N + b * V);
    }
}

// C (M, N) = A (M, K) B (K, N), or += with `add`; M is a multiple of BLOCK, B as `pack` lays it out.
template <typename S>
void multiply(int64_t M, int64_t N, int64_t K, const S* A, const S* B, Sum<S>* C, bool add) {
  if constexpr (TILES<S>)
    at::native::cpublas::brgemm(M, N, K, K, N, N, add, A, B, C);
  else if (N % (4 * Vec<S>::size()) == 0)
    multiply_in_registers<4, 4>(M, N, K, A, K, 1, B, C, add);
  else
    multiply_in_registers<8, 1>(M, N, K, A, K, 1, B, C, add);
}

// Vectors of sums from and to the numbers of the maps; of a vector, the first `count`.
template <typename T>
inline Vec<T> load(const T* from, int64_t count = Vec<T>::size()) {
  return count == Vec<T>::size() ? Vec<T>::loadu(from) : Vec<T>::loadu(from, count);
}
inline Vec<float> load(const at::BFloat16* from, int64_t count) {
  return std::get<0>(at::vec::convert_bfloat16_float(Vec<at::BFloat16>::loadu(from, count)));
}
template <typename T>
inline void store(const Vec<T>& x, T* to, int64_t count = Vec<T>::size()) {
  count == Vec<T>::size() ? x.store(to) : x.store(to, count);
}
inline void store(const Vec<float>& x, at::BFloat16* to, int64_t count = Vec<float>::size()) {
  at::vec::convert_float_bfloat16(x, x).store(to, count);
}

// Asks for n numbers that the next pixel reads: maps are too large for a cache.
template <typename T>
inline void prefetch(const T* from, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(from + i);
}

template <typename S, typename T = Sum<S>>
void forward_block(const Geometry& g, int64_t block, int64_t direction, const S* gates,
                   const std::vector<S>& weight, const T* initial, S* h, T* c, T* activations,
                   bool keep) {
  const int64_t hp = g.padded(), V = Vec<T>::size();
  const auto clear = [&](int64_t row, int64_t column, int64_t pixels) {
    std::fill_n(h + g.at(row, column), pixels * g.pixel(), S(0));
    std::fill_n(c + g.at(row, column), pixels * g.pixel(), T(0));
  };
  clear(-1, -g.border(), g.pitch());
  for (int64_t row = 0; row < g.height; ++row)
    for (const int64_t column : {-g.border(), g.width}) clear(row, column, g.border());
  for (int64_t i = 0; i < g.initials(); ++i)
    for (int64_t b = 0; b < BLOCK; ++b) {
      const Tap place = g.initial(direction, i);
      const int64_t to = g.at(place.row, place.column) + b * hp;
      at::vec::convert(initial + i * g.hidden, h + to, g.hidden);
      at::vec::convert(initial + (g.initials() + i) * g.hidden, c + to, g.hidden);
    }
  const std::vector<Tap> taps = g.taps(direction);
  const Tap cell = g.cell(direction);
  const int64_t stride = g.directions * 4 * g.hidden, ahead = direction == 0 ? 1 : -1;
  for (int64_t row = 0; row < g.height; ++row) {
    T* sums = activations + (keep ? row : 0) * g.width * 4 * g.pixel();
    bool add = false;
    for (size_t tap = 0; tap < taps.size(); ++tap)
      if (taps[tap].row < 0) {
        multiply(g.width * BLOCK, 4 * hp, hp, h + g.at(row - 1, taps[tap].column),
                 weight.data() + tap * g.matrix(), sums, add);
        add = true;
      }
    for (int64_t step = 0; step < g.width; ++step) {
      const int64_t column = g.column(direction, step), here = g.at(row, column);
      T* pixel = sums + column * 4 * g.pixel();
      if (taps[0].row == 0)
        multiply(BLOCK, 4 * hp, hp, h + g.at(row, column + taps[0].column), weight.data(), pixel,
                 add);
      const T* before = c + g.at(row + cell.row, column + cell.column);
      for (int64_t b = 0; b < BLOCK; ++b) {
        // The last block may be short: its spare places repeat the last image.
        const int64_t n = std::min(block * BLOCK + b, g.images - 1);
        const S* input = gates + ((n * g.height + row) * g.width + column) * stride +
                         direction * 4 * g.hidden;
        prefetch(input + ahead * stride, 4 * g.hidden);
        for (int64_t unit = 0; unit < hp; unit += V) {
          const int64_t at = b * hp + unit, count = g.count(unit);
          T* sum = pixel + 4 * b * hp + unit;
          Vec<T> gate[4];  // eq 3 of the paper
          for (int64_t k = 0; k < 4; ++k) {
            const Vec<T> x = load(input + k * g.hidden + unit, count) + Vec<T>::loadu(sum + k * hp);
            gate[k] = k < 3 ? sigmoid(x) : hyperbolic_tangent(x);
            gate[k].store(sum + k * hp);
          }
          const Vec<T> next = gate[1] * Vec<T>::loadu(before + at) + gate[2] * gate[3];
          next.store(c + here + at);
          store(gate[0] * hyperbolic_tangent(next), h + here + at);
        }
      }
    }
  }
}

// Two rows of a gradient, one and the next, `numbers` a pixel, with a border of zeros.
template <typename T>
struct Rows {
  const Geometry& g;
  const int64_t numbers;
  std::vector<T> values;
  Rows(const Geometry& geometry, int64_t numbers_)
      : g(geometry), numbers(numbers_), values(2 * geometry.pitch() * numbers_, T(0)) {}
  T* at(int64_t row, int64_t column) {
    return values.data() + ((row & 1) * g.pitch() + column + g.border()) * numbers;
  }
};

// Two rows of n numbers -> (n, 2), as pairs of one word.
inline void interleave(const at::BFloat16* rows, int64_t n, at::BFloat16* pairs) {
  const auto* __restrict from = reinterpret_cast<const uint16_t*>(rows);
  auto* __restrict to = reinterpret_cast<uint32_t*>(pairs);
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] | static_cast<uint32_t>(from[n + i]) << 16;
}

// sums (taps, hp, 4 hp) += h^T errors for each tap, over a row of pixels and the images of a block.
template <typename S>
struct WeightGradient {
  const Geometry& g;
  Sum<S>* const sums;
  std::vector<S> left, right;  // factors as tiles take them

  void add_row(int64_t row, const std::vector<Tap>& taps, const S* h, const S* errors) {
    const int64_t hp = g.padded(), N = 4 * hp, K = g.width * BLOCK;
    if constexpr (TILES<S>) {
      right.resize(K * N);
      for (int64_t k = 0; k < K; k += 2)
        interleave(errors + k * N, N, right.data() + k * N);
    }
    for (size_t tap = 0; tap < taps.size(); ++tap) {
      const S* state = h + g.at(row + taps[tap].row, taps[tap].column);
      Sum<S>* to = sums + tap * g.matrix();
      if constexpr (TILES<S>) {
        left.resize(hp * K);
        for (int64_t k = 0; k < K; k += 32)
          for (int64_t m = 0; m < hp; m += 32)
            at::vec::transpose_mxn<S>(state + k * hp + m, hp, left.data() + m * K + k, K,
                                      std::min<int64_t>(32, K - k), std::min<int64_t>(32, hp - m));
        multiply(hp, N, K, left.data(), right.data(), to, true);
      } else {
        multiply_in_registers<4, 4>(hp, N, K, state, 1, hp, errors, to, true);
      }
    }
  }
};

template <typename S, typename T = Sum<S>>
void backward_block(const Geometry& g, int64_t block, int64_t direction, const S* grad,
                    const std::vector<S>& weight, const S* h, const T* c, const T* activations,
                    S* grad_gates, T* grad_initial, T* weight_sums) {
  const int64_t hp = g.padded(), V = Vec<T>::size(), hidden = g.hidden;
  const std::vector<Tap> taps = g.taps(direction);
  const Tap cell = g.cell(direction);
  // Gradients of the gates' sums, of the cell before, and of the hidden state from its users.
  Rows<S> errors(g, 4 * g.pixel());
  Rows<T> cells(g, g.pixel()), states(g, g.pixel());
  WeightGradient<S> weights{g, weight_sums};
  const int64_t images = std::min(BLOCK, g.images - block * BLOCK);
  // The right-to-left map is shifted down by one row before it is added to the other.
  const int64_t shift = g.diagonal() && direction == 1 ? 1 : 0;
  const int64_t stride = g.directions * 4 * hidden, ahead = direction == 0 ? -1 : 1;
  // What the users of the pixels of a row send back to them through the tap.
  const auto gather = [&](size_t tap, int64_t row, int64_t column, int64_t pixels, bool add) {
    multiply(pixels * BLOCK, hp, 4 * hp,
             errors.at(row - taps[tap].row, column - taps[tap].column),
             weight.data() + tap * g.matrix(), states.at(row, column), add);
  };
  // The last row done is that of the initial states.
  for (int64_t row = g.height - 1; row >= g.initial(direction, 0).row; --row) {
    bool add = false;
    for (size_t tap = 0; tap < taps.size(); ++tap)
      if (taps[tap].row < 0) {
        gather(tap, row, 0, g.width, add);
        add = true;
      }
    for (int64_t step = g.width - 1; step >= 0 && row >= 0; --step) {
      const int64_t column = g.column(direction, step), here = g.at(row, column);
      if (taps[0].row == 0) gather(0, row, column, 1, add);
      const T* kept = activations + (row * g.width + column) * 4 * g.pixel();
      const T* users = states.at(row, column);
      const T* later = cells.at(row - cell.row, column - cell.column);
      const T* before = c + g.at(row + cell.row, column + cell.column);
      T* earlier = cells.at(row, column);
      S* own = errors.at(row, column);
      for (int64_t b = 0; b < BLOCK; ++b) {
        const bool real = b < images;
        const int64_t n = block * BLOCK + b;
        const S* from = grad + ((n * g.height + row + shift) * g.width + column) * hidden;
        S* to = grad_gates + ((n * g.height + row) * g.width + column) * stride +
                direction * 4 * hidden;
        prefetch(kept + 4 * (b * hp + ahead * g.pixel()), 4 * hp);
        for (int64_t unit = 0; unit < hp; unit += V) {
          const int64_t at = b * hp + unit, wide = 4 * b * hp + unit, count = g.count(unit);
          const Vec<T> o = Vec<T>::loadu(kept + wide), f = Vec<T>::loadu(kept + wide + hp),
                       i = Vec<T>::loadu(kept + wide + 2 * hp),
                       content = Vec<T>::loadu(kept + wide + 3 * hp);
          const Vec<T> one(1), tanh_c = hyperbolic_tangent(Vec<T>::loadu(c + here + at));
          Vec<T> dh = Vec<T>::loadu(users + at);
          if (real && row + shift < g.height) dh = dh + load(from + unit, count);
          const Vec<T> dc = dh * o * (one - tanh_c * tanh_c) + Vec<T>::loadu(later + at);
          const Vec<T> error[4] = {
              dh * tanh_c * o * (one - o), dc * Vec<T>::loadu(before + at) * f * (one - f),
              dc * content * i * (one - i), dc * i * (one - content * content)};
          (dc * f).store(earlier + at);
          for (int64_t gate = 0; gate < 4; ++gate) {
            store(error[gate], own + wide + gate * hp);
            if (real) store(error[gate], to + gate * hidden + unit, count);
          }
        }
      }
    }
    if (row >= 0) weights.add_row(row, taps, h, errors.at(row, 0));
    for (int64_t entry = 0; entry < g.initials(); ++entry) {
      const auto [at_row, column] = g.initial(direction, entry);
      if (at_row != row) continue;
      if (taps[0].row == 0) gather(0, row, column, 1, false);
      const T* gradients[2] = {states.at(row, column),
                               cells.at(row - cell.row, column - cell.column)};
      for (int64_t state = 0; state < 2; ++state)
        for (int64_t b = 0; b < BLOCK; ++b)
          for (int64_t k = 0; k < hidden; ++k)
            grad_initial[(state * g.initials() + entry) * hidden + k] += gradients[state][b * hp + k];
    }
  }
}

// Of a map (N, H, W, ..., h) and the weight (directions, taps, h, 4h).
Geometry geometry_of(const at::Tensor& map, const at::Tensor& weight, int64_t kernel) {
  const int64_t lanes = map.scalar_type() == at::kDouble ? Vec<double>::size() : Vec<float>::size();
  return {map.size(0), map.size(1), map.size(2), weight.size(0), map.size(-1), lanes, kernel};
}

// Whether the scan can take bfloat16: it needs a unit for matrices of them.
bool tiles() { return at::native::cpublas::could_pack(at::kBFloat16); }

// Calls body(task, block, direction) for every block and direction, over the threads.
template <typename Body>
void for_tasks(const Geometry& g, bool tiles, const Body& body) {
  at::parallel_for(0, g.blocks() * g.directions, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) body(task, task / g.directions, task % g.directions);
    if (tiles) at::native::cpublas::brgemm_release();
  });
}

// Returns the summed map (N, H, W, h), and what the backward pass needs, if there will be one.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward(const at::Tensor& gates,
                                                                   const at::Tensor& weight,
                                                                   const at::Tensor& initial,
                                                                   int64_t kernel, bool keep) {
  TORCH_CHECK(gates.dim() == 6 && gates.size(3) == weight.size(0) && gates.size(4) == 4,
              "gates must be (N, H, W, directions, 4, h), got ", gates.sizes());
  const Geometry g = geometry_of(gates, weight, kernel);
  const int64_t hp = g.padded();
  const int64_t directions = g.diagonal() ? 2 : 1;
  TORCH_CHECK(weight.sizes() == at::IntArrayRef({directions, g.num_taps(), g.hidden, 4 * g.hidden}),
              "weight must be (directions, taps, h, 4h), got ", weight.sizes());
  TORCH_CHECK(initial.sizes() == at::IntArrayRef({g.directions, 2, g.initials(), g.hidden}),
              "initial must be (directions, 2, L, h) for an L of ", g.initials(), ", got ",
              initial.sizes());
  at::Tensor out = at::empty({g.images, g.height, g.width, g.hidden}, gates.options());
  at::Tensor h = at::empty({g.blocks(), g.directions, g.plane()}, gates.options());
  at::Tensor c = at::empty({g.blocks(), g.directions, g.plane()}, weight.options());
  const int64_t kept = (keep ? g.height : 1) * g.width * 4 * g.pixel();
  at::Tensor activations = at::empty({g.blocks(), g.directions, kept}, weight.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, gates.scalar_type(), "lstm_scan", [&] {
    using S = scalar_t;
    using T = Sum<S>;
    const auto packed = pack<S>(weight, g, false);
    S* hidden = h.mutable_data_ptr<S>();
    T *cells = c.mutable_data_ptr<T>(), *to = activations.mutable_data_ptr<T>();
    for_tasks(g, TILES<S>, [&](int64_t task, int64_t block, int64_t direction) {
      forward_block<S>(g, block, direction, gates.const_data_ptr<S>(), packed[direction],
                       initial.const_data_ptr<T>() + direction * 2 * g.initials() * g.hidden,
                       hidden + task * g.plane(), cells + task * g.plane(), to + task * kept, keep);
    });
    S* map = out.mutable_data_ptr<S>();
    at::parallel_for(0, g.images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        for (int64_t row = 0; row < g.height; ++row)
          for (int64_t column = 0; column < g.width; ++column) {
            S* pixel = map + ((n * g.height + row) * g.width + column) * g.hidden;
            const S* first = hidden + n / BLOCK * g.directions * g.plane() + n % BLOCK * hp;
            const S* left = first + g.at(row, column);
            if (!g.diagonal() || row == 0) {
              std::copy_n(left, g.hidden, pixel);
              continue;
            }
            at::vec::map2<S>([](auto x, auto y) { return x + y; }, pixel, left,
                             first + g.plane() + g.at(row - 1, column), g.hidden);
          }
    });
  });
  return {out, h, c, activations};
}

// Gradients of the gates, the weight and the initial states from that of the map, (N, H, W, h).
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad,
                                                        const at::Tensor& weight,
                                                        const at::Tensor& h, const at::Tensor& c,
                                                        const at::Tensor& activations,
                                                        int64_t kernel) {
  const Geometry g = geometry_of(grad, weight, kernel);
  const int64_t hp = g.padded();
  at::Tensor grad_gates =
      at::empty({g.images, g.height, g.width, g.directions, 4, g.hidden}, grad.options());
  at::Tensor grad_initial =
      at::zeros({g.blocks(), g.directions, 2, g.initials(), g.hidden}, weight.options());
  at::Tensor grad_weight =
      at::zeros({g.blocks(), g.directions, g.num_taps(), hp, 4, hp}, weight.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, grad.scalar_type(), "lstm_scan_backward", [&] {
    using S = scalar_t;
    using T = Sum<S>;
    const auto packed = pack<S>(weight, g, true);
    S* to_gates = grad_gates.mutable_data_ptr<S>();
    T *to_initial = grad_initial.mutable_data_ptr<T>(), *to_weight = grad_weight.mutable_data_ptr<T>();
    for_tasks(g, TILES<S>, [&](int64_t task, int64_t block, int64_t direction) {
      backward_block<S>(g, block, direction, grad.const_data_ptr<S>(), packed[direction],
                        h.const_data_ptr<S>() + task * g.plane(),
                        c.const_data_ptr<T>() + task * g.plane(),
                        activations.const_data_ptr<T>() + task * g.height * g.width * 4 * g.pixel(),
                        to_gates, to_initial + task * 2 * g.initials() * g.hidden,
                        to_weight + task * g.num_taps() * g.matrix());
    });
  });
  // One sum for each block, added in a fixed order: the result does not depend on the threads.
  grad_weight = grad_weight.sum(0).narrow(2, 0, g.hidden).narrow(4, 0, g.hidden);
  return {grad_gates, grad_weight.flatten(3), grad_initial.sum(0)};
}

}  // namespace

TORCH_LIBRARY(nvp_scan, library) {
  library.def("tiles", &tiles);
  library.def("forward", torch::dispatch(at::kCPU, &forward));
  library.def("backward", torch::dispatch(at::kCPU, &backward));
}
