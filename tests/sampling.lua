--- Sampled sweeps: 20 of many random instants or allocations by a fresh seed, which the runner prints; all of them
-- under `make check` (LACUNA_TEST_FULL=1).

local sampling = {
  seed = math.tointeger(tonumber(os.getenv "LACUNA_TEST_SEED" or "")) or 1,
  full = os.getenv "LACUNA_TEST_FULL" == "1",
}

--- `count` different numbers of 1..n in increasing order; all of them when full or when there are no more.
---@param n integer
---@param count integer|nil default 20
---@return integer[]
function sampling.of(n, count)
  count = sampling.full and n or math.min(count or 20, n)
  local state = sampling.seed * 2654435761
  local chosen, list = {}, {}
  while #list < count do
    state = (state * 6364136223846793005 + 1442695040888963407) & math.maxinteger
    local pick = (state >> 20) % n + 1
    while chosen[pick] do pick = pick % n + 1 end
    chosen[pick] = true
    list[#list + 1] = pick
  end
  table.sort(list)
  return list
end

return sampling
