// Random problems, and the distances and positives of each as a dense double computation would have them.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "cpu/pair_matrix.h"

namespace fused_rank {

using Random = std::mt19937_64;
inline int64_t below(Random& random, int64_t n) {
  return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
}

// Arrays are vectors made at their size: each a heap block of its own with no slack, so that one step outside shows.

enum class Form { self, two_set, plain };
enum class Geometry { spread, near_duplicates, duplicates, tight_cluster, with_nan };
enum class Classes { few_rows, one, distinct, one_wide };
struct Shape {
  int64_t m, n, width;
};

inline void put(std::vector<uint8_t>& storage, DType dtype, int64_t at, double value) {
  const auto copy = [&](auto number) {
    std::memcpy(storage.data() + at * bytes_of(dtype), &number, sizeof(number));
  };
  switch (dtype) {
    case DType::f64:
      return copy(value);
    case DType::f32:
      return copy(static_cast<float>(value));
    case DType::f16:
      return copy(static_cast<Float16>(value));
    case DType::bf16:
      return copy(static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
  }
}

struct Matrix {
  std::vector<uint8_t> storage;
  Source source;

  // Some are contiguous, some have a gap after each row, some are transposed.
  Matrix(int64_t rows, int64_t width, DType dtype, Geometry geometry, bool in_cluster_first, Random& random) {
    const int64_t layout = below(random, 3);
    source = {nullptr, dtype, rows, width, layout == 2 ? 1 : width + 3 * layout, layout == 2 ? rows + 1 : 1};
    const int64_t last = (rows - 1) * source.row_stride + (width - 1) * source.col_stride;
    storage = std::vector<uint8_t>((last + 1) * bytes_of(dtype));
    source.data = storage.data();
    std::normal_distribution<double> normal;
    std::vector<double> row(width), earlier(width);
    for (int64_t i = 0; i < rows; ++i) {
      const bool clustered = geometry == Geometry::tight_cluster && (2 * i < rows) == in_cluster_first;
      const bool copied = geometry == Geometry::duplicates || geometry == Geometry::near_duplicates;
      const double step = geometry == Geometry::duplicates ? 0.0 : 1e-4;
      for (int64_t k = 0; k < width; ++k) {
        if (clustered) row[k] = 3.0 + 1e-3 * normal(random);
        else if (copied && i % 3 == 1) row[k] = earlier[k] + step * normal(random);
        else row[k] = 0.6 * normal(random);
        put(storage, dtype, i * source.row_stride + k * source.col_stride, row[k]);
      }
      if (i % 3 == 0) earlier = row;
    }
    if (geometry == Geometry::with_nan) {
      const int64_t i = below(random, rows), k = below(random, width);
      put(storage, dtype, i * source.row_stride + k * source.col_stride, below(random, 2) ? NAN : -INFINITY);
    }
  }
};

struct Labels {
  int64_t stride = 1;
  std::vector<int64_t> values;
  int64_t operator[](int64_t i) const { return values[i * stride]; }

  Labels(int64_t rows, Classes classes, Random& random)
      : stride(1 + below(random, 2)), values((rows - 1) * stride + 1) {
    for (int64_t i = 0; i < rows; ++i) {
      int64_t label = 7;
      if (classes == Classes::few_rows) label = below(random, rows / 5 + 1);
      if (classes == Classes::distinct) label = (i * 7919) % 10007;
      if (classes == Classes::one_wide && below(random, 3) == 0) label = 8 + below(random, rows / 4 + 1);
      values[i * stride] = classes == Classes::few_rows && label % 2 ? INT64_MIN + label : label;
    }
  }
};

struct Problem {
  Form form;
  DType dtype;
  Matrix x, y;
  Labels labels, gallery_labels;
  PairInput input;

  Problem(Form form, Shape shape, DType dtype, Geometry geometry, Classes classes, Metric metric,
          bool normalize, Random& random)
      : form(form), dtype(dtype), x(shape.m, shape.width, dtype, geometry, true, random),
        y(form == Form::two_set ? shape.n : shape.m, shape.width, dtype, geometry, false, random),
        labels(shape.m, classes, random), gallery_labels(y.source.rows, classes, random) {
    input.query = x.source;
    if (!self()) input.gallery = y.source;
    input.metric = metric;
    input.normalize = normalize;
    const bool plain = form == Form::plain;
    input.order = order_by_label(plain ? nullptr : labels.values.data(), labels.stride, shape.m,
                                 plain || self() ? nullptr : gallery_labels.values.data(),
                                 gallery_labels.stride, self() ? 0 : y.source.rows, self());
  }
  Problem(const Problem&) = delete;

  bool self() const { return form == Form::self; }
  int64_t m() const { return x.source.rows; }
  int64_t n() const { return self() ? m() : y.source.rows; }
  int64_t width() const { return x.source.width; }
  int64_t tiles() const { return ((m() + 63) / 64) * ((n() + 63) / 64); }
};

// Everything by definition, in double, from the rows as they were rounded.
struct Dense {
  const Problem& problem;
  bool unit;  // rows
  std::vector<double> distance;
  std::vector<bool> finite, gallery_finite;
  bool all_finite = true, queries_finite = true;  // of the gallery, of the queries

  explicit Dense(const Problem& p, bool dot = false)
      : problem(p), unit(dot ? p.input.normalize : p.input.unit_rows()), distance(p.m() * p.n()) {
    const std::vector<std::vector<double>> x = rows(p.x.source, finite),
                                           y = rows(p.self() ? p.x.source : p.y.source, gallery_finite);
    for (const bool f : gallery_finite) all_finite = all_finite && f;
    for (const bool f : finite) queries_finite = queries_finite && f;
    for (int64_t i = 0; i < p.m(); ++i) {
      for (int64_t j = 0; j < p.n(); ++j) {
        double square = 0.0, product = 0.0;
        for (int64_t k = 0; k < p.width(); ++k) {
          square += (x[i][k] - y[j][k]) * (x[i][k] - y[j][k]);
          product += x[i][k] * y[j][k];
        }
        const Metric metric = p.input.metric;
        distance[i * p.n() + j] = dot                           ? product
                                  : metric == Metric::euclidean ? std::sqrt(square)
                                  : metric == Metric::cosine    ? square / 2
                                                                : square;
      }
    }
  }
  double operator()(int64_t i, int64_t j) const { return distance[i * problem.n() + j]; }
  // Of a row that reports a loss: a query or, from m on, a gallery row of a symmetric form.
  bool lost(int64_t i) const {
    if (i < problem.m()) return !finite[i] || !all_finite;
    return !gallery_finite[i - problem.m()] || !queries_finite;
  }
  bool valid(int64_t i, int64_t j) const { return !problem.self() || i != j; }
  bool same(int64_t i, int64_t j) const {
    if (problem.form == Form::plain) return i == j;
    return problem.labels[i] == (problem.self() ? problem.labels[j] : problem.gallery_labels[j]);
  }
  bool positive(int64_t i, int64_t j) const { return valid(i, j) && same(i, j); }
  bool negative(int64_t i, int64_t j) const { return !same(i, j); }

 private:
  std::vector<std::vector<double>> rows(const Source& source, std::vector<bool>& finite_rows) const {
    std::vector<std::vector<double>> all(source.rows, std::vector<double>(source.width));
    for (int64_t i = 0; i < source.rows; ++i) {
      widen(source, i, 1.0, all[i].data());
      double square = 0.0;
      for (const double v : all[i]) square += v * v;
      finite_rows.push_back(std::isfinite(square));
      if (unit && square > 0.0)
        for (double& v : all[i]) v /= std::sqrt(square);
    }
    return all;
  }
};

}  // namespace fused_rank
