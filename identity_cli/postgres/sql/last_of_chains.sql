-- The last place of the chain that each place is in. next_places[i] is the place after place i, always a higher one, or
-- null at the end. A recursive query would look at all places in each of its steps.
CREATE OR REPLACE FUNCTION last_of_chains(next_places integer[]) RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    FOR i IN REVERSE coalesce(cardinality(next_places), 0) .. 1 LOOP
        next_places[i] := coalesce(next_places[next_places[i]], i);
    END LOOP;
    RETURN next_places;
END $$;
