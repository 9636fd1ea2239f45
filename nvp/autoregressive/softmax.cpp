// The log-probability of one level of each sub-pixel under a softmax over K logits, and its backward
// pass: log p = l_x - log sum_k exp(l_k).
//
// PyTorch writes K numbers in float32 for each sub-pixel, four times over, to keep one. Here a row
// of K logits in bfloat16 is read where it lies and summed in float32; each row stands for itself,
// so no result depends on the threads.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <tuple>

namespace {

using BFloat = at::vec::Vectorized<at::BFloat16>;
using Float = at::vec::Vectorized<float>;

constexpr int64_t WIDE = BFloat::size();  // logits that go together: one vector of bfloat16
constexpr int64_t GRAIN = 64;           // rows that are worth a thread

// Calls body(row) for all rows, over the threads.
template <typename Body>
void for_rows(int64_t rows, const Body& body) {
  at::parallel_for(0, rows, GRAIN, [&](int64_t row, int64_t last) {
    for (; row < last; ++row) body(row);
  });
}

inline std::tuple<Float, Float> load(const at::BFloat16* from) {
  return at::vec::convert_bfloat16_float(BFloat::loadu(from));
}

// logits (rows, K), K a multiple of WIDE, and levels (rows,) -> log p and the log of the sum, each
// (rows,) in float32.
std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& logits, const at::Tensor& levels) {
  const int64_t rows = logits.size(0), size = logits.size(1);
  TORCH_CHECK(levels.numel() == rows, levels.numel(), " levels for ", rows, " sub-pixels");
  at::Tensor log_p = at::empty({rows}, logits.options().dtype(at::kFloat));
  at::Tensor log_sum = at::empty_like(log_p);
  const auto* in = logits.const_data_ptr<at::BFloat16>();
  const auto* chosen = levels.const_data_ptr<uint8_t>();
  auto *to_p = log_p.mutable_data_ptr<float>(), *to_sum = log_sum.mutable_data_ptr<float>();
  for_rows(rows, [&](int64_t row) {
    const auto* l = in + row * size;
    TORCH_CHECK_INDEX(chosen[row] < size, "level ", int(chosen[row]), " of ", size, " levels");
    Float most(-std::numeric_limits<float>::infinity());
    for (int64_t k = 0; k < size; k += WIDE) {
      const auto [a, b] = load(l + k);
      most = at::vec::maximum(most, at::vec::maximum(a, b));
    }
    const float top = at::vec::vec_reduce_all<float>(
        [](const Float& a, const Float& b) { return at::vec::maximum(a, b); }, most);
    Float sum(0);
    for (int64_t k = 0; k < size; k += WIDE) {
      const auto [a, b] = load(l + k);
      sum = sum + (a - Float(top)).exp() + (b - Float(top)).exp();
    }
    const float total = at::vec::vec_reduce_all<float>(
        [](const Float& a, const Float& b) { return a + b; }, sum);
    to_sum[row] = top + std::log(total);
    to_p[row] = static_cast<float>(l[chosen[row]]) - top - std::log(total);
  });
  return {log_p, log_sum};
}

// With g the gradient of log p and p_k = exp(l_k - log_sum): dl_k = g ((1 if k is the level) - p_k).
at::Tensor backward(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& levels,
                    const at::Tensor& log_sum) {
  const int64_t rows = logits.size(0), size = logits.size(1);
  at::Tensor to_logits = at::empty_like(logits);
  const auto* in = logits.const_data_ptr<at::BFloat16>();
  const auto* chosen = levels.const_data_ptr<uint8_t>();
  const auto *above = grad.const_data_ptr<float>(), *sums = log_sum.const_data_ptr<float>();
  auto* out = to_logits.mutable_data_ptr<at::BFloat16>();
  for_rows(rows, [&](int64_t row) {
    const auto* l = in + row * size;
    auto* to = out + row * size;
    const Float g(-above[row]), sum(sums[row]);
    for (int64_t k = 0; k < size; k += WIDE) {
      const auto [a, b] = load(l + k);
      at::vec::convert_float_bfloat16(g * (a - sum).exp(), g * (b - sum).exp()).store(to + k);
    }
    const float log_p = static_cast<float>(l[chosen[row]]) - sums[row];
    to[chosen[row]] = -above[row] * std::expm1(log_p);
  });
  return to_logits;
}

}  // namespace

TORCH_LIBRARY(nvp_softmax, library) {
  library.def("forward", torch::dispatch(at::kCPU, &forward));
  library.def("backward", torch::dispatch(at::kCPU, &backward));
}
