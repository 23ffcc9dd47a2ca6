-- The rules: which values and pairs do not link. Each function changes a rule and works out the identities again that it
-- touches; the log entry of the command is the caller's. One command runs at a time, requests go on: they wait for the
-- primaries that a command has locked, then look again.

-- Lock the primaries and placeholders of these values, in the order of their ids; return them. A merge or another change
-- may come first: then those that the values have moved to.
CREATE OR REPLACE FUNCTION lock_identities(of_values text[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    roots bigint[];
    found_roots bigint[];
BEGIN
    FOR attempt IN 1 .. 50 LOOP
        found_roots := ARRAY(
            SELECT coalesce(c.linked_id, c.id)
            FROM unnest(of_values) AS own (value),
                LATERAL (SELECT id, linked_id FROM contact WHERE email = own.value AND anchors_email OFFSET 0) AS c
            UNION
            SELECT coalesce(c.linked_id, c.id)
            FROM unnest(of_values) AS own (value),
                LATERAL (SELECT id, linked_id FROM contact WHERE phone_number = own.value AND anchors_phone OFFSET 0) AS c
            ORDER BY 1
        );
        IF found_roots = roots THEN
            RETURN roots;
        END IF;
        roots := found_roots;
        PERFORM FROM contact WHERE id = ANY (roots) ORDER BY id FOR UPDATE;
    END LOOP;
    RAISE EXCEPTION 'the identities keep changing' USING ERRCODE = 'serialization_failure';
END $$;

-- These values, and every value that is stated with one of them and kept from linking with it.
CREATE OR REPLACE FUNCTION with_held_partners(of_values text[]) RETURNS text[]
LANGUAGE sql AS $$
    SELECT ARRAY(
        SELECT unnest(of_values)
        UNION
        SELECT s.phone_number FROM unnest(of_values) AS own (value),
            LATERAL (SELECT phone_number FROM set_aside_contact WHERE email = own.value OFFSET 0) AS s
        WHERE s.phone_number IS NOT NULL
        UNION
        SELECT s.email FROM unnest(of_values) AS own (value),
            LATERAL (SELECT email FROM set_aside_contact WHERE phone_number = own.value OFFSET 0) AS s
        WHERE s.email IS NOT NULL
        UNION
        SELECT e.other_value FROM unnest(of_values) AS own (value),
            LATERAL (SELECT other_value FROM link_evidence WHERE link_evidence.value = own.value AND is_held OFFSET 0) AS e
        UNION
        SELECT e.value FROM unnest(of_values) AS own (value),
            LATERAL (SELECT link_evidence.value FROM link_evidence WHERE other_value = own.value AND is_held OFFSET 0) AS e
        ORDER BY 1
    )
$$;

-- Lock the identities of these values and of what is kept from linking with them; return their primaries.
CREATE OR REPLACE FUNCTION lock_with_held_partners(of_values text[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    touched text[];
    roots bigint[];
BEGIN
    -- The placeholders first: while they are locked, no request states anything new with their values.
    PERFORM lock_identities(of_values);
    FOR attempt IN 1 .. 50 LOOP
        touched := with_held_partners(of_values);
        roots := lock_identities(touched);
        IF with_held_partners(of_values) = touched THEN
            RETURN roots;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'the identities keep changing' USING ERRCODE = 'serialization_failure';
END $$;

-- These values, and every value that a rule keeps from linking with one of them.
CREATE OR REPLACE FUNCTION with_unlinked_partners(of_values text[]) RETURNS text[]
LANGUAGE sql AS $$
    SELECT ARRAY(
        SELECT unnest(of_values)
        UNION
        SELECT u.other_value FROM unnest(of_values) AS own (value),
            LATERAL (SELECT other_value FROM unlinked_pair WHERE unlinked_pair.value = own.value OFFSET 0) AS u
        UNION
        SELECT u.value FROM unnest(of_values) AS own (value),
            LATERAL (SELECT unlinked_pair.value FROM unlinked_pair WHERE other_value = own.value OFFSET 0) AS u
        ORDER BY 1
    )
$$;

-- Those of these values that no contact and no placeholder anchors.
CREATE OR REPLACE FUNCTION without_anchor(of_values text[]) RETURNS text[]
LANGUAGE sql AS $$
    SELECT ARRAY(
        SELECT own.value FROM unnest(of_values) AS own (value)
        WHERE NOT EXISTS (SELECT FROM contact WHERE email = own.value AND anchors_email)
          AND NOT EXISTS (SELECT FROM contact WHERE phone_number = own.value AND anchors_phone)
    )
$$;

-- Stop these values from linking: for the command, for a pattern, or as hubs.
CREATE OR REPLACE FUNCTION block_values(
    of_values text[],
    command bigint,
    by_command boolean,
    by_pattern bigint DEFAULT NULL,
    as_hub boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    touched text[];
    roots bigint[];
    unknown text[];
BEGIN
    INSERT INTO blocked_value AS b (value, command_id, pattern_id, is_hub)
    SELECT DISTINCT own.value, CASE WHEN by_command THEN command END, by_pattern, as_hub
    FROM unnest(of_values) AS own (value)
    ORDER BY own.value
    ON CONFLICT (value) DO UPDATE SET
        command_id = coalesce(b.command_id, excluded.command_id),
        pattern_id = coalesce(b.pattern_id, excluded.pattern_id),
        is_hub = b.is_hub OR excluded.is_hub;
    FOR attempt IN 1 .. 50 LOOP
        -- A contact that was stored with an unlinked pair shows the other value when one of them is blocked.
        touched := with_unlinked_partners(of_values);
        roots := lock_identities(touched);
        CONTINUE WHEN with_unlinked_partners(of_values) <> touched;
        unknown := without_anchor(of_values);
        IF unknown = '{}' THEN
            PERFORM rework(roots, of_values, command);
            RETURN;
        END IF;
        -- A request may store one of them at this moment: then this waits, and finds its contact next.
        PERFORM keep_placeholders(unknown);
    END LOOP;
    RAISE EXCEPTION 'the identities keep changing' USING ERRCODE = 'serialization_failure';
END $$;

-- Take a reason to block away from these values; those without another one link again.
CREATE OR REPLACE FUNCTION unblock_values(
    of_values text[],
    command bigint,
    by_command boolean DEFAULT false,
    by_pattern boolean DEFAULT false,
    as_hub boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    roots bigint[] := lock_with_held_partners(of_values);
    released text[];
BEGIN
    WITH reasons AS MATERIALIZED (
        SELECT value,
               CASE WHEN NOT by_command THEN command_id END AS command_id,
               -- The first pattern that matches, also where the value was blocked before it was known.
               (SELECT min(id) FROM block_pattern WHERE b.value ~ whole_value(pattern)) AS pattern_id,
               is_hub AND NOT as_hub AS is_hub
        FROM blocked_value AS b WHERE value = ANY (of_values)
    ), kept AS (
        UPDATE blocked_value AS b SET command_id = r.command_id, pattern_id = r.pattern_id, is_hub = r.is_hub
        FROM reasons AS r
        WHERE b.value = r.value AND (num_nonnulls(r.command_id, r.pattern_id) > 0 OR r.is_hub)
    ), dropped AS (
        DELETE FROM blocked_value AS b USING reasons AS r
        WHERE b.value = r.value AND NOT (num_nonnulls(r.command_id, r.pattern_id) > 0 OR r.is_hub)
        RETURNING b.value
    )
    SELECT array_agg(value) INTO released FROM dropped;
    IF released IS NOT NULL THEN
        PERFORM rework(roots, released, command);
    END IF;
END $$;

-- Keep two values from linking with each other. `left_value` and `right_value` are in the order of link_evidence.
CREATE OR REPLACE FUNCTION unlink_pair(left_value text, right_value text, command bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    of_values text[] := ARRAY[left_value, right_value];
    roots bigint[];
    unknown text[];
BEGIN
    INSERT INTO unlinked_pair (value, other_value, command_id) VALUES (left_value, right_value, command)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR attempt IN 1 .. 50 LOOP
        roots := lock_identities(of_values);
        unknown := without_anchor(of_values);
        IF unknown = '{}' THEN
            IF cardinality(roots) = 1 THEN
                PERFORM rework(roots, '{}', command);
            END IF;
            RETURN;
        END IF;
        -- Whoever states a value for the first time has to meet the rule.
        PERFORM keep_placeholders(unknown);
    END LOOP;
    RAISE EXCEPTION 'the identities keep changing' USING ERRCODE = 'serialization_failure';
END $$;

-- Let two values link with each other again.
CREATE OR REPLACE FUNCTION relink_pair(left_value text, right_value text, command bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    roots bigint[] := lock_identities(ARRAY[left_value, right_value]);
BEGIN
    DELETE FROM unlinked_pair WHERE value = left_value AND other_value = right_value;
    IF FOUND THEN
        PERFORM rework(roots, ARRAY[left_value, right_value], command);
    END IF;
END $$;

-- The regular expression that matches a value as a whole.
CREATE OR REPLACE FUNCTION whole_value(pattern text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT '^(?:' || pattern || ')$'
$$;

-- Block every value that the pattern matches, now and when it comes. Raises 2201B for an invalid pattern.
CREATE OR REPLACE FUNCTION add_pattern(new_pattern text, command bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    new_id bigint;
    matching text[];
BEGIN
    -- By itself, too: 'a)|(b' would be valid with parentheses around it.
    PERFORM '' ~ new_pattern, '' ~ whole_value(new_pattern);
    LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE;
    INSERT INTO block_pattern (pattern, command_id) VALUES (new_pattern, command)
    ON CONFLICT DO NOTHING RETURNING id INTO new_id;
    IF new_id IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_rules_in_force();
    matching := ARRAY(
        SELECT email FROM contact WHERE anchors_email AND email ~ whole_value(new_pattern)
        UNION ALL
        SELECT phone_number FROM contact WHERE anchors_phone AND phone_number ~ whole_value(new_pattern)
    );
    IF matching <> '{}' THEN
        PERFORM block_values(matching, command, false, new_id);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION remove_pattern(old_pattern text, command bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    old_id bigint;
    matching text[];
BEGIN
    LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE;
    SELECT id INTO old_id FROM block_pattern WHERE pattern = old_pattern;
    IF old_id IS NULL THEN
        RETURN;
    END IF;
    matching := ARRAY(SELECT value FROM blocked_value WHERE pattern_id = old_id);
    -- Without its foreign key for a moment: the values get another pattern, or none, below.
    UPDATE block_pattern SET pattern = '' WHERE id = old_id;
    PERFORM unblock_values(matching, command, by_pattern => true);
    DELETE FROM block_pattern WHERE id = old_id;
    PERFORM set_rules_in_force();
END $$;

-- Which rules every request has to be checked against: 1 if new values may be forgotten or match a pattern, plus twice the
-- lowest limit if partners are counted. A constant, so that a request pays nothing where there are none; set_rules_in_force() replaces it, while
-- no request is between its first row and its COMMIT.
CREATE OR REPLACE FUNCTION rules_in_force() RETURNS integer LANGUAGE sql STABLE AS $$ SELECT 0 $$;

CREATE OR REPLACE FUNCTION set_rules_in_force() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    new_values boolean := EXISTS (SELECT FROM block_pattern) OR EXISTS (SELECT FROM forgotten_value);
    lowest_limit integer := (SELECT coalesce(least(email_limit, phone_limit), 0) FROM link_policy);
BEGIN
    IF rules_in_force() <> new_values::integer + 2 * lowest_limit THEN
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION rules_in_force() RETURNS integer LANGUAGE sql STABLE AS $body$ SELECT %s $body$',
            new_values::integer + 2 * lowest_limit
        );
    END IF;
END $$;
