// The metrics of the server in Prometheus' text format. Nothing is counted here: values are read at scrape
// time from one copy of the engine's ledger, so that every scrape agrees with itself.
//
// Threads: any.
#ifndef MAMBAD_SERVER_METRICS_H_
#define MAMBAD_SERVER_METRICS_H_

#include <string>
#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"
#include "server/backend.h"

namespace mambad {

class Metrics final : public prometheus::Collectable {
 public:
  // `backend` outlives this. While the model loads only build info and start time exist.
  Metrics(const Backend* backend, std::string model_id);

  std::vector<prometheus::MetricFamily> Collect() const override;
  // Content type "text/plain; version=0.0.4".
  std::string Text() const;

 private:
  const Backend* const backend_;
  const std::string model_id_;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_METRICS_H_
