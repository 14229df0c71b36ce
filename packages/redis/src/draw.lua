-- Draws from token buckets of one rule, each kept as the moment at which it will be full again, in microseconds of the server's clock (GCRA).
--
-- KEYS: of each draw its bucket, in the order of the draws; the same one may come again.
-- ARGV: microseconds a token takes; tokens a bucket holds; of each draw what is wanted, as one number, or with the least that is of use and what is given back before: '30 1 0'.
-- Answers an integer for each draw, in how many microseconds the bucket will be full; where not all was granted, -1 less that, and behind them all what was (0 or a multiple of the least), in millionths of a token.
--
-- A bucket expires when it is full again, but not before five seconds: one that is asked again and again would be deleted and made anew each time. One that is further from full than it is large is of a clock
-- that went back, and counts as empty. What is no bucket counts as a full one, and is written over.
local call, max, min, ceil, floor = redis.call, math.max, math.min, math.ceil, math.floor
local per, burst = ARGV[1] + 0, ARGV[2] + 0
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local found = call('MGET', unpack(KEYS))
local full = {}
for nth, key in ipairs(KEYS) do full[key] = tonumber(found[nth] or 0) or 0 end

local drawn, parts = {}, {}
for nth, key in ipairs(KEYS) do
  local wanted, least, back = tonumber(ARGV[nth + 2]), nil, 0
  if wanted then
    least = wanted
  else
    wanted, least, back = string.match(ARGV[nth + 2], '(%S+) (%S+) (%S+)')
    wanted, least, back = wanted + 0, least + 0, back + 0
  end
  local taken = max(0, min(burst, max(0, (full[key] - now) / per)) - back)
  local there = burst - taken
  local granted = wanted
  if granted > there + 1e-6 then granted = floor(there / least + 1e-9) * least end
  local us = ceil(min(burst, taken + granted) * per - 0.001)
  if granted > 0 or back > 0 then
    full[key] = now + us
    if us > 0 then
      call('SET', key, now + us, 'PX', us > 5000000 and ceil(us / 1000) or '5000')
    else
      call('DEL', key)
    end
  end
  drawn[nth] = us
  if granted < wanted then
    drawn[nth] = -1 - us
    parts[#parts + 1] = floor(granted * 1e6 + 1e-3)
  end
end
for _, part in ipairs(parts) do drawn[#drawn + 1] = part end
return drawn
