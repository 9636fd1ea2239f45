// The batch norm inside the networks of Real NVP with the rectifier behind it, and its backward
// pass: y = max(0, (x - mean) / sqrt(variance + epsilon) + beta), over the moments of the batch.
//
// PyTorch takes seven passes over the map and its gradient, five for the norm, where four suffice.
// In each it turns every number from bfloat16 to float32. Here a map is a matrix (rows, channels):
// the pixels of all images, channels last. Sums are taken in float32 over CHUNK rows, and in
// float64 over the chunks, in a fixed order: no result depends on the threads.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

namespace {

using BFloat = at::vec::Vectorized<at::BFloat16>;
using Pair = at::vec::VectorizedN<float, 2>;
using Channels = std::vector<float>;  // a number for each channel

constexpr int64_t CHUNK = 512;
constexpr int64_t WIDE = Pair::size();  // channels that go together: one vector of bfloat16

// The first n of WIDE numbers; what lies behind them is neither read nor written.
inline Pair load(const at::BFloat16* from, int64_t n) {
  return at::vec::convert<float, 2, at::BFloat16, 1>(n == WIDE ? BFloat::loadu(from)
                                                               : BFloat::loadu(from, n));
}

inline void store(at::BFloat16* to, const Pair& x, int64_t n) {
  const BFloat rounded = at::vec::convert<at::BFloat16, 1, float, 2>(x);
  n == WIDE ? rounded.store(to) : rounded.store(to, static_cast<int>(n));
}

// Calls body(chunk, first row, last row, first channel, number of channels), over the threads.
template <typename Body>
void for_blocks(int64_t rows, int64_t channels, const Body& body) {
  at::parallel_for(0, (rows + CHUNK - 1) / CHUNK, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk)
      for (int64_t c = 0; c < channels; c += WIDE)
        body(chunk, chunk * CHUNK, std::min(rows, (chunk + 1) * CHUNK), c,
             std::min(WIDE, channels - c));
  });
}

// Means over the rows of two numbers each; `terms(c, n)` gives what adds those of one row.
template <typename Terms>
std::vector<double> two_means(int64_t rows, int64_t channels, const Terms& terms) {
  const int64_t chunks = (rows + CHUNK - 1) / CHUNK;
  std::vector<float> sums(chunks * 2 * channels);
  for_blocks(rows, channels, [&](int64_t chunk, int64_t row, int64_t last, int64_t c, int64_t n) {
    Pair first(0), second(0);
    const auto add = terms(c, n);
    for (; row < last; ++row) add(row, first, second);
    first.store(&sums[chunk * 2 * channels + c], n);
    second.store(&sums[(chunk * 2 + 1) * channels + c], n);
  });
  std::vector<double> means(2 * channels, 0.0);
  for (size_t i = 0; i < sums.size(); ++i) means[i % means.size()] += sums[i] / rows;
  return means;
}

struct Affine {  // of each channel: x -> scale x + offset, the norm before its rectifier
  Channels scale, offset;
  Affine(const float* beta, const float* mean, const float* variance, int64_t channels, double epsilon)
      : scale(channels), offset(channels) {
    for (int64_t c = 0; c < channels; ++c) {
      scale[c] = static_cast<float>(1 / std::sqrt(variance[c] + epsilon));
      offset[c] = beta[c] - mean[c] * scale[c];
    }
  }
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> forward(const at::Tensor& x, const at::Tensor& beta,
                                                       double epsilon) {
  const int64_t channels = x.size(1), rows = x.numel() / channels;
  at::Tensor y = at::empty_like(x), mean = at::empty_like(beta), variance = at::empty_like(beta);
  const auto* in = x.const_data_ptr<at::BFloat16>();
  auto* out = y.mutable_data_ptr<at::BFloat16>();
  // Moments about the first pixel: about 0 a large mean would drown a small variance. (If that pixel
  // is 15 deviations out, the variance is off by a part in 10^4, or 10^3 if all others are equal.)
  const auto moments = two_means(rows, channels, [&](int64_t c, int64_t n) {
    return [=, origin = load(in + c, n)](int64_t row, Pair& first, Pair& second) {
      const Pair v = load(in + row * channels + c, n) - origin;
      first = first + v;
      second = fmadd(v, v, second);
    };
  });
  auto *means = mean.mutable_data_ptr<float>(), *variances = variance.mutable_data_ptr<float>();
  for (int64_t c = 0; c < channels; ++c) {
    const double away = moments[c];
    means[c] = static_cast<float>(static_cast<float>(in[c]) + away);
    // In this order of arguments a variance that is nan stays so.
    variances[c] = static_cast<float>(std::max(moments[channels + c] - away * away, 0.0));
  }
  const Affine norm(beta.const_data_ptr<float>(), means, variances, channels, epsilon);
  for_blocks(rows, channels, [&](int64_t, int64_t row, int64_t last, int64_t c, int64_t n) {
    const Pair scale = Pair::loadu(&norm.scale[c], n), offset = Pair::loadu(&norm.offset[c], n);
    for (; row < last; ++row) {
      const Pair y = fmadd(load(in + row * channels + c, n), scale, offset);
      store(out + row * channels + c, maximum(y, Pair(0)), n);
    }
  });
  return {y, mean, variance};
}

// With g the gradient where the rectifier is open, else 0, and k = 1 / sqrt(variance + epsilon):
//   dx = k (g - mean(g) - k^2 (x - mean(x)) mean(g (x - mean(x)))) + beside,   dbeta = sum(g),
// where `beside` is the gradient of x from elsewhere.
std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& grad,
                                            const std::optional<at::Tensor>& beside,
                                            const at::Tensor& x, const at::Tensor& beta,
                                            const at::Tensor& mean, const at::Tensor& variance,
                                            double epsilon) {
  const int64_t channels = x.size(1), rows = x.numel() / channels;
  at::Tensor to_x = at::empty_like(x), to_beta = at::empty_like(beta);
  const auto *in = x.const_data_ptr<at::BFloat16>(), *above = grad.const_data_ptr<at::BFloat16>();
  const auto* more = beside ? beside->const_data_ptr<at::BFloat16>() : nullptr;
  auto* out = to_x.mutable_data_ptr<at::BFloat16>();
  const float* means = mean.const_data_ptr<float>();
  const Affine norm(beta.const_data_ptr<float>(), means, variance.const_data_ptr<float>(), channels,
                    epsilon);
  const auto through = [&](int64_t c, int64_t n) {
    return [=, scale = Pair::loadu(&norm.scale[c], n), offset = Pair::loadu(&norm.offset[c], n)](
               int64_t row, const Pair& v) {
      return (fmadd(v, scale, offset) > Pair(0)) & load(above + row * channels + c, n);
    };
  };
  const auto sums = two_means(rows, channels, [&](int64_t c, int64_t n) {
    return [=, open = through(c, n), centre = Pair::loadu(means + c, n)](int64_t row, Pair& first,
                                                                  Pair& second) {
      const Pair v = load(in + row * channels + c, n), g = open(row, v);
      first = first + g;
      second = fmadd(g, v - centre, second);
    };
  });
  Channels slope(channels), constant(channels);  // dx = k g + slope x + constant
  for (int64_t c = 0; c < channels; ++c) {
    const double k = norm.scale[c];
    to_beta.mutable_data_ptr<float>()[c] = static_cast<float>(rows * sums[c]);
    slope[c] = static_cast<float>(-k * k * k * sums[channels + c]);
    constant[c] = static_cast<float>(-k * sums[c] - slope[c] * means[c]);
  }
  for_blocks(rows, channels, [&](int64_t, int64_t row, int64_t last, int64_t c, int64_t n) {
    const Pair scale = Pair::loadu(&norm.scale[c], n);
    const Pair a = Pair::loadu(&slope[c], n), b = Pair::loadu(&constant[c], n);
    const auto open = through(c, n);
    for (; row < last; ++row) {
      const Pair v = load(in + row * channels + c, n), g = open(row, v);
      Pair gradient = fmadd(scale, g, fmadd(a, v, b));
      if (more) gradient = gradient + load(more + row * channels + c, n);
      store(out + row * channels + c, gradient, n);
    }
  });
  return {to_x, to_beta};
}

}  // namespace

TORCH_LIBRARY(nvp_norm_relu, library) {
  library.def("forward", torch::dispatch(at::kCPU, &forward));
  library.def("backward", torch::dispatch(at::kCPU, &backward));
}
