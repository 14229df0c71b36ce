-- Draws from a token bucket that is kept as the moment at which it will be full again, in microseconds of the server's clock (GCRA). One key, so any slot of a cluster will do.
--
-- ARGV: microseconds a token takes; tokens the bucket holds; the least that is of use; wanted; given back first.
-- Answers what was granted, 0 or a multiple of the least, and how many tokens are missing from the bucket now, both as text: a number would be cut to an integer.
--
-- A bucket that is full again expires. One that is further from full than it is large is of a clock that went back, and counts as empty.
local per, burst, least, wanted, back = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = tonumber(redis.call('GET', KEYS[1]) or 0)
local taken = math.max(0, math.min(burst, math.max(0, (full - now) / per)) - back)
local there = burst - taken
local granted = wanted
if granted > there + 1e-6 then granted = math.floor(there / least + 1e-9) * least end
taken = math.min(burst, taken + granted)
if granted > 0 or back > 0 then
  local us = math.ceil(taken * per - 0.001)
  if us > 0 then
    redis.call('SET', KEYS[1], string.format('%.0f', now + us), 'PX', math.ceil(us / 1000))
  else
    redis.call('DEL', KEYS[1])
  end
end
return { string.format('%.17g', granted), string.format('%.17g', taken) }
