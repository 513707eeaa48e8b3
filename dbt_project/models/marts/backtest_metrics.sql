select
    model,
    horizon_days,
    evaluation_date,
    slice_name,
    slice_value,
    measure,
    figure,
    avg(figure) over same_measure as mean_over_cutoffs,
    stddev_samp(figure) over same_measure as spread_over_cutoffs,
    count(figure) over same_measure as count_cutoffs,
    model_version,
    run_id
from {{ source('scores', 'backtest_metrics') }}
window same_measure as (
    partition by model_version, model, horizon_days, slice_name, slice_value, measure
)
