{# Every row of the cutoffs of this run is of a customer of the spine, and the other way round. #}
{% test in_spine(model) %}
select
    coalesce(spine.customer_id, tested.customer_id) as customer_id,
    coalesce(spine.cutoff_date, tested.cutoff_date) as cutoff_date
from {{ tested_rows(ref('customer_spine'), true) }} as spine
full join (select distinct customer_id, cutoff_date from {{ tested_rows(model, true) }}) as tested
    on spine.customer_id = tested.customer_id and spine.cutoff_date = tested.cutoff_date
where spine.customer_id is null or tested.customer_id is null
{% endtest %}
