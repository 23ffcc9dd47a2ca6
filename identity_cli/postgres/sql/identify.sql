-- Reconcile a request and return the contacts of the identity that it led to, at most `at_most` of them (NULL: all):
-- one round trip for a caller that needs both.
CREATE OR REPLACE FUNCTION identify(emails text[], phones text[], at_most bigint)
RETURNS TABLE (
    id bigint, email text, phone_number text, linked_id bigint,
    outcome text, primary_id bigint, contact_id bigint, contact_ids bigint[]
)
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation := reconcile_request(emails, phones);
BEGIN
    RETURN QUERY SELECT member.*, result.* FROM members(result.primary_id, at_most) AS member;
END $$;
